//! Output vectors: what a model answers.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

/// The element type of an output vector. Runtimes widen every other numeric type to the narrowest of these that holds it
/// exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// 64-bit signed integers.
    I64,
}

impl VectorType {
    /// The size of one element in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// A one-dimensional vector of numbers, kept as little-endian bytes. In JSON an array, every number in the shortest form
/// that reads back as the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector<Bytes = Vec<u8>> {
    dtype: VectorType,
    bytes: Bytes,
}

impl<Bytes: AsRef<[u8]>> Vector<Bytes> {
    /// Takes `bytes` as the elements of a vector.
    ///
    /// # Errors
    ///
    /// [`VectorError::Length`] if they are no whole number of elements; [`VectorError::NotFinite`] if one of them is NaN or
    /// infinite, which JSON cannot say.
    pub fn new(dtype: VectorType, bytes: Bytes) -> Result<Self, VectorError> {
        let length = bytes.as_ref().len();
        if !length.is_multiple_of(dtype.size()) {
            return Err(VectorError::Length { bytes: length, element: dtype.size() });
        }
        let vector = Self { dtype, bytes };
        match vector.first_not_finite() {
            Some(index) => Err(VectorError::NotFinite(vector.not_finite(index))),
            None => Ok(vector),
        }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> VectorType {
        self.dtype
    }

    /// The elements, little-endian.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.bytes().len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The place of the first element that is NaN or infinite.
    fn first_not_finite(&self) -> Option<usize> {
        match self.dtype {
            VectorType::F32 => singles(self.bytes()).position(|value| !value.is_finite()),
            VectorType::F64 => doubles(self.bytes()).position(|value| !value.is_finite()),
            VectorType::I64 => None,
        }
    }

    fn not_finite(&self, index: usize) -> NotFinite {
        let value = match self.dtype {
            VectorType::F32 => singles(self.bytes()).map(f64::from).nth(index),
            VectorType::F64 => doubles(self.bytes()).nth(index),
            VectorType::I64 => None,
        };
        NotFinite { index, value: value.map_or_else(String::new, |value| value.to_string()) }
    }
}

impl From<&[f64]> for Vector {
    /// Values that are not finite must have been refused before.
    fn from(values: &[f64]) -> Self {
        Self { dtype: VectorType::F64, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }
}

impl<Bytes: AsRef<[u8]>> Serialize for Vector<Bytes> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        match self.dtype {
            VectorType::F32 => singles(self.bytes()).try_for_each(|value| sequence.serialize_element(&value))?,
            VectorType::F64 => doubles(self.bytes()).try_for_each(|value| sequence.serialize_element(&value))?,
            VectorType::I64 => integers(self.bytes()).try_for_each(|value| sequence.serialize_element(&value))?,
        }
        sequence.end()
    }
}

fn singles(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    bytes.as_chunks().0.iter().map(|chunk| f64::from_le_bytes(*chunk))
}

fn integers(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks().0.iter().map(|chunk| i64::from_le_bytes(*chunk))
}

/// Why bytes are not an output vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// The bytes end inside an element.
    #[error("{bytes} bytes are no whole number of {element}-byte elements")]
    Length {
        /// How many bytes there are.
        bytes: usize,
        /// How many one element takes.
        element: usize,
    },
    /// An element has no JSON form.
    #[error(transparent)]
    NotFinite(NotFinite),
}

/// An element that is NaN or infinite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("element {index} of the output vector is {value}; JSON has no such number")]
pub struct NotFinite {
    /// Its place, from 0.
    pub index: usize,
    /// `NaN`, `inf` or `-inf`.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_vector_that_json_cannot_say_is_refused() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let bytes: Vec<u8> = [1.0, value].iter().flat_map(|value: &f64| value.to_le_bytes()).collect();
            assert!(matches!(Vector::new(VectorType::F64, bytes), Err(VectorError::NotFinite(NotFinite { index: 1, .. }))));
        }
        assert!(matches!(Vector::new(VectorType::F32, vec![0; 7]), Err(VectorError::Length { bytes: 7, element: 4 })));
    }

    #[test]
    fn integers_stay_integers() {
        let bytes: Vec<u8> = [i64::MIN, 3, i64::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
        let vector = Vector::new(VectorType::I64, bytes).unwrap();
        assert_eq!(serde_json::to_string(&vector).unwrap(), "[-9223372036854775808,3,9223372036854775807]");
    }

    proptest! {
        #[test]
        fn doubles_read_back_bit_for_bit(values: Vec<f64>) {
            let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
            let json = serde_json::to_string(&Vector::from(values.as_slice())).unwrap();
            let back: Vec<f64> = json.trim_matches(['[', ']']).split_terminator(',').map(|text| text.parse().unwrap()).collect();
            prop_assert!(back.iter().zip(&values).all(|(back, value)| back.to_bits() == value.to_bits()) && back.len() == values.len());
        }

        #[test]
        fn singles_read_back_bit_for_bit(values: Vec<f32>) {
            let values: Vec<f32> = values.into_iter().filter(|value| value.is_finite()).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let json = serde_json::to_string(&Vector::new(VectorType::F32, bytes).unwrap()).unwrap();
            let back: Vec<f32> = json.trim_matches(['[', ']']).split_terminator(',').map(|text| text.parse().unwrap()).collect();
            prop_assert!(back.iter().zip(&values).all(|(back, value)| back.to_bits() == value.to_bits()) && back.len() == values.len());
        }
    }
}

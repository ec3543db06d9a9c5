//! Numeric arrays: an element type, a shape, and little-endian bytes.

use serde::{Deserialize, Serialize};

/// The type of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each name is the usual one of its type")]
pub enum Dtype {
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Dtype {
    /// The size of one element in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

/// An array of numbers in row-major order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// The type of each element.
    pub dtype: Dtype,
    /// The length of each dimension, outermost first; empty for a single number.
    pub shape: Vec<u64>,
    /// The elements, little-endian.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

impl Array {
    /// Whether `data` is as long as `dtype` and `shape` say. Check before handing an array to native code.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let elements = self.shape.iter().try_fold(1_u64, |product, &length| product.checked_mul(length));
        let bytes = elements.and_then(|elements| elements.checked_mul(self.dtype.size() as u64));
        bytes == Some(self.data.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_shape_must_match_the_bytes() {
        let array = |shape: &[u64], bytes: usize| Array { dtype: Dtype::F32, shape: shape.to_vec(), data: vec![0; bytes] };
        assert!(array(&[2, 3], 24).is_consistent());
        assert!(array(&[], 4).is_consistent());
        assert!(array(&[0, 7], 0).is_consistent());
        assert!(!array(&[2, 3], 20).is_consistent());
        assert!(!array(&[u64::MAX, u64::MAX], 0).is_consistent());
    }
}

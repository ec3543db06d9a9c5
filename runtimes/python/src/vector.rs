//! What `output` returned, as the bytes of a vector.
//!
//! Lists and tuples are read here in one pass; everything else is first taken apart by `dunnage._vectors`.

#[cfg(target_endian = "big")]
compile_error!("buffers are handed on as they lie in memory, which has to be little-endian");

use dunnage_types::VectorType;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyTuple};

use crate::sys;

/// Hands the elements of `value` to `receive`, as little-endian bytes. `place` names the value in errors.
pub(crate) fn read<R>(
    worker: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    place: &str,
    receive: impl FnOnce(VectorType, &[u8]) -> R,
) -> PyResult<R> {
    let numbers = if let Ok(list) = value.cast::<PyList>() {
        if let Some(bytes) = sys::floats_of_list(list) {
            return Ok(receive(VectorType::F64, &bytes));
        }
        collect(worker, list.iter(), place)?
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        if let Some(bytes) = sys::floats_of_tuple(tuple) {
            return Ok(receive(VectorType::F64, &bytes));
        }
        collect(worker, tuple.iter(), place)?
    } else {
        let unpacked = worker.call_method1("unpack", (value, place))?;
        match unpacked.cast::<PyList>() {
            Ok(list) => collect(worker, list.iter(), place)?,
            Err(_) => return read_buffer(&unpacked, place, receive),
        }
    };
    Ok(match numbers {
        Numbers::Integers(values) => receive(VectorType::I64, &bytes(values, i64::to_le_bytes)),
        Numbers::Floats(values) => receive(VectorType::F64, &bytes(values, f64::to_le_bytes)),
    })
}

enum Numbers {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
}

fn collect<'py>(
    worker: &Bound<'py, PyAny>,
    elements: impl ExactSizeIterator<Item = Bound<'py, PyAny>>,
    place: &str,
) -> PyResult<Numbers> {
    let mut numbers = Numbers::Integers(Vec::with_capacity(elements.len()));
    for (index, element) in elements.enumerate() {
        if !numbers.push(&element)? {
            let number = worker.call_method1("number", (&element, index, place))?;
            if !numbers.push(&number)? {
                return Err(PyRuntimeError::new_err(format!("element {index} is not a number after all")));
            }
        }
    }
    Ok(numbers)
}

impl Numbers {
    /// Adds an element; `false` if it is none of Python's own numbers, or too large.
    fn push(&mut self, element: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(float) = element.cast_exact::<PyFloat>() {
            self.push_float(float.value());
        } else if let Ok(integer) = element.cast_exact::<PyInt>() {
            match integer.extract() {
                Ok(integer) => self.push_integer(integer),
                Err(error) if error.is_instance_of::<PyOverflowError>(element.py()) => return Ok(false),
                Err(error) => return Err(error),
            }
        } else if let Ok(flag) = element.cast_exact::<PyBool>() {
            self.push_integer(flag.is_true().into());
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn push_float(&mut self, value: f64) {
        if let Self::Integers(integers) = self {
            let mut floats = Vec::with_capacity(integers.capacity());
            floats.extend(integers.iter().copied().map(to_float));
            *self = Self::Floats(floats);
        }
        if let Self::Floats(floats) = self {
            floats.push(value);
        }
    }

    fn push_integer(&mut self, value: i64) {
        match self {
            Self::Integers(integers) => integers.push(value),
            Self::Floats(floats) => floats.push(to_float(value)),
        }
    }
}

/// As Python itself does it when an int meets a float.
#[expect(clippy::cast_precision_loss, reason = "an integer among floats becomes the nearest float")]
fn to_float(value: i64) -> f64 {
    value as f64
}

fn read_buffer<R>(unpacked: &Bound<'_, PyAny>, place: &str, receive: impl FnOnce(VectorType, &[u8]) -> R) -> PyResult<R> {
    let (kind, size, data): (char, usize, Bound<'_, PyBytes>) = unpacked.extract()?;
    let data = data.as_bytes();
    Ok(match (kind, size) {
        ('f', 2) => receive(VectorType::F32, &widen(data, |bits| half(u16::from_le_bytes(bits)).to_le_bytes())),
        ('f', 4) => receive(VectorType::F32, data),
        ('f', 8) => receive(VectorType::F64, data),
        ('b', 1) => receive(VectorType::I64, &widen(data, |[byte]| i64::from(byte != 0).to_le_bytes())),
        ('i', 1) => receive(VectorType::I64, &widen(data, |byte| i64::from(i8::from_le_bytes(byte)).to_le_bytes())),
        ('i', 2) => receive(VectorType::I64, &widen(data, |bytes| i64::from(i16::from_le_bytes(bytes)).to_le_bytes())),
        ('i', 4) => receive(VectorType::I64, &widen(data, |bytes| i64::from(i32::from_le_bytes(bytes)).to_le_bytes())),
        ('i', 8) => receive(VectorType::I64, data),
        ('u', 1) => receive(VectorType::I64, &widen(data, |byte| i64::from(u8::from_le_bytes(byte)).to_le_bytes())),
        ('u', 2) => receive(VectorType::I64, &widen(data, |bytes| i64::from(u16::from_le_bytes(bytes)).to_le_bytes())),
        ('u', 4) => receive(VectorType::I64, &widen(data, |bytes| i64::from(u32::from_le_bytes(bytes)).to_le_bytes())),
        ('u', 8) => {
            check_unsigned(unpacked.py(), data, place)?;
            receive(VectorType::I64, data)
        }
        _ => return Err(PyRuntimeError::new_err(format!("{place}: no numbers of kind `{kind}` and {size} bytes are known"))),
    })
}

fn check_unsigned(py: Python<'_>, data: &[u8], place: &str) -> PyResult<()> {
    let values = data.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    match values.enumerate().find(|(_, value)| i64::try_from(*value).is_err()) {
        None => Ok(()),
        Some((index, value)) => {
            let message = format!("{place}: element {index} is {value}, which needs more than 63 bits; return floats instead");
            let failure = py.import("dunnage._errors")?.getattr("Failure")?.call1(("bad_output", message))?;
            Err(PyErr::from_value(failure))
        }
    }
}

fn widen<const FROM: usize, const TO: usize>(data: &[u8], convert: impl Fn([u8; FROM]) -> [u8; TO]) -> Vec<u8> {
    bytes(data.as_chunks::<FROM>().0.iter().copied(), convert)
}

fn bytes<T, const SIZE: usize>(values: impl IntoIterator<Item = T>, convert: impl Fn(T) -> [u8; SIZE]) -> Vec<u8> {
    let values = values.into_iter();
    let mut bytes = Vec::with_capacity(values.size_hint().0 * SIZE);
    for value in values {
        bytes.extend_from_slice(&convert(value));
    }
    bytes
}

/// A half-precision number, which single precision holds exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2.0_f32.powi(exponent - 25),
    };
    sign * magnitude
}

//! Values of the state, in the form databases keep them in.

use dunnage_types::{Array, Dtype, StateValue};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::{MAX_KEY_BYTES, StoreError};

/// A value as a database keeps it.
pub(crate) struct Kept {
    pub(crate) kind: &'static str,
    /// JSON text, or the bytes themselves.
    pub(crate) bytes: Vec<u8>,
    pub(crate) layout: Option<Layout>,
}

/// What tells an array from its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    dtype: Dtype,
    shape: Vec<u64>,
}

impl Layout {
    /// The array of this layout with these bytes.
    pub(crate) fn array(self, data: Vec<u8>) -> StateValue {
        StateValue::Array(Array { dtype: self.dtype, shape: self.shape, data })
    }
}

/// How JSON is told from other values.
pub(crate) const JSON: &str = "json";
/// How bytes are.
pub(crate) const BYTES: &str = "bytes";
/// How arrays are.
pub(crate) const ARRAY: &str = "array";

impl Kept {
    /// The value of `key`, if it is no larger than `limit`.
    pub(crate) fn new(key: &str, value: StateValue, limit: usize) -> Result<Self, StoreError> {
        let kept = match value {
            StateValue::Json(json) => Self { kind: JSON, bytes: json.to_string().into_bytes(), layout: None },
            StateValue::Bytes(bytes) => Self { kind: BYTES, bytes, layout: None },
            StateValue::Array(array) if !array.is_consistent() => {
                return Err(StoreError::InconsistentArray { key: key.to_owned() });
            }
            StateValue::Array(Array { dtype, shape, data }) => {
                Self { kind: ARRAY, bytes: data, layout: Some(Layout { dtype, shape }) }
            }
        };
        let size = kept.bytes.len();
        if size > limit { Err(StoreError::ValueTooLarge { key: key.to_owned(), size, limit }) } else { Ok(kept) }
    }
}

/// A key that may be used.
pub(crate) fn checked(key: &str) -> Result<String, StoreError> {
    let valid = !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.contains('\0');
    valid.then(|| key.to_owned()).ok_or(StoreError::InvalidKey)
}

/// Whole numbers are added exactly or not at all, others as doubles.
pub(crate) fn sum(number: &Number, by: &Number) -> Option<Number> {
    match (number.as_i128(), by.as_i128()) {
        (Some(number), Some(by)) => i64::try_from(number + by).ok().map(Number::from),
        _ => Number::from_f64(number.as_f64()? + by.as_f64()?),
    }
}

/// The sum for `key` of what it holds and `by`; nothing counts as 0.
pub(crate) fn incremented(key: &str, held: Option<StateValue>, by: &Number) -> Result<Number, StoreError> {
    let sum = match held {
        None => Some(by.clone()),
        Some(StateValue::Json(serde_json::Value::Number(number))) => sum(&number, by),
        Some(_) => None,
    };
    sum.ok_or_else(|| StoreError::NotANumber { key: key.to_owned() })
}

/// Whether a key holds what was expected; `None` means that it is absent.
pub(crate) fn is_same(held: Option<&StateValue>, expected: Option<&StateValue>) -> bool {
    match (held, expected) {
        (Some(held), Some(expected)) => held.same_as(expected),
        (held, expected) => held.is_none() && expected.is_none(),
    }
}

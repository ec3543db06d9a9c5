//! Values of a service's state, the map behind `ctx.state`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Array;

/// One value of the state map; the same in every language and on every store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateValue {
    /// Anything JSON can say.
    Json(Value),
    /// Raw bytes.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Numbers with a type and a shape.
    Array(Array),
}

impl StateValue {
    /// About how many bytes the value takes up where it is kept.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Json(value) => value.to_string().len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(array) => array.data.len(),
        }
    }

    /// Whether two values mean the same. Unlike `==`, JSON numbers are compared by value: 1 is the same as 1.0, because
    /// languages differ in how they keep them.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Json(left), Self::Json(right)) => same_json(left, right),
            _ => self == other,
        }
    }
}

fn same_json(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_json(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len() && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| same_json(value, other)))
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_the_same_in_every_language() {
        let value = |json: Value| StateValue::Json(json);
        assert!(value(json!({"a": [1, 2.5]})).same_as(&value(json!({"a": [1.0, 2.5]}))));
        assert!(!value(json!([1])).same_as(&value(json!([1, 2]))));
        assert!(!value(json!("1")).same_as(&value(json!(1))));
    }
}

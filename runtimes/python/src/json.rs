//! JSON between Rust and Python. What Python hands over has been made plain by `dunnage._values`, so every refusal here is
//! of something that slipped through there.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use serde_json::{Map, Number, Value};

/// A JSON object as a Python dict.
pub(crate) fn object_to_python<'py>(py: Python<'py>, object: &Map<String, Value>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in object {
        dict.set_item(key, to_python(py, value)?)?;
    }
    Ok(dict)
}

/// A JSON value as Python's own.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Number(number) => number_to_python(py, number)?,
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(elements) => {
            let list = PyList::empty(py);
            for element in elements {
                list.append(to_python(py, element)?)?;
            }
            list.into_any()
        }
        Value::Object(object) => object_to_python(py, object)?.into_any(),
    })
}

/// A JSON number as a Python int or float.
pub(crate) fn number_to_python<'py>(py: Python<'py>, number: &Number) -> PyResult<Bound<'py, PyAny>> {
    if let Some(integer) = number.as_i64() {
        Ok(integer.into_pyobject(py)?.into_any())
    } else if let Some(integer) = number.as_u64() {
        Ok(integer.into_pyobject(py)?.into_any())
    } else {
        Ok(PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any())
    }
}

/// A plain Python value as JSON.
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        Ok(Value::Null)
    } else if let Ok(flag) = value.cast::<PyBool>() {
        Ok(Value::Bool(flag.is_true()))
    } else if let Ok(text) = value.cast::<PyString>() {
        Ok(Value::String(text_from_python(text)?))
    } else if let Ok(list) = value.cast::<PyList>() {
        list.iter().map(|element| from_python(&element)).collect::<PyResult<_>>().map(Value::Array)
    } else if let Ok(dict) = value.cast::<PyDict>() {
        object_from_python(dict).map(Value::Object)
    } else {
        number_from_python(value).map(Value::Number)
    }
}

/// A plain Python dict as a JSON object.
pub(crate) fn object_from_python(dict: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    dict.iter().map(|(key, value)| Ok((text_from_python(key.cast::<PyString>()?)?, from_python(&value)?))).collect()
}

/// A Python int or float as a JSON number.
pub(crate) fn number_from_python(value: &Bound<'_, PyAny>) -> PyResult<Number> {
    if value.is_instance_of::<PyInt>() {
        value.extract::<i64>().map(Number::from).or_else(|_| value.extract::<u64>().map(Number::from))
    } else if let Ok(float) = value.cast::<PyFloat>() {
        Number::from_f64(float.value()).ok_or_else(|| PyValueError::new_err("JSON has no NaN and no infinity"))
    } else {
        Err(PyTypeError::new_err(format!("JSON cannot say a {}", value.get_type().name()?)))
    }
}

fn text_from_python(text: &Bound<'_, PyString>) -> PyResult<String> {
    text.to_cow()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| PyValueError::new_err("a text holds lone surrogates, which are no Unicode; clean it before it is kept"))
}

//! The server, as a Python object: what `dunnage._host.Host` describes.

use std::sync::atomic::{AtomicBool, Ordering};

use dunnage_runtime::{CallHost, HostError};
use dunnage_types::{Array, Dtype, LogLevel, Progress, StateValue};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::json;

/// Whether this process is a copy that the script has forked. Such a copy must not speak on the connection, which is
/// its parent's.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Asks the server in the name of one call. Every question lets other Python threads run while it waits.
#[pyclass(frozen)]
pub(crate) struct ServerHost {
    host: CallHost,
}

impl ServerHost {
    pub(crate) fn new(host: &CallHost) -> Self {
        Self { host: host.clone() }
    }

    fn ask<T: Send>(&self, py: Python<'_>, question: impl Send + FnOnce(&CallHost) -> Result<T, HostError>) -> PyResult<T> {
        if is_forked() {
            return Err(PyRuntimeError::new_err(
                "a context can be used by the worker's own threads, not by processes it has forked",
            ));
        }
        py.detach(|| question(&self.host)).map_err(|error| raised(py, &error))
    }
}

#[pymethods]
impl ServerHost {
    fn state_get<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.ask(py, |host| host.state_get(key))?.map(|value| encoded(py, value)).transpose()
    }

    fn state_set(&self, py: Python<'_>, key: &str, value: &Bound<'_, PyTuple>) -> PyResult<()> {
        let value = decoded(value)?;
        self.ask(py, |host| host.state_set(key, value))
    }

    fn state_delete(&self, py: Python<'_>, key: &str) -> PyResult<bool> {
        self.ask(py, |host| host.state_delete(key))
    }

    fn state_increment<'py>(&self, py: Python<'py>, key: &str, by: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let by = json::number_from_python(by)?;
        let sum = self.ask(py, |host| host.state_increment(key, by))?;
        json::number_to_python(py, &sum)
    }

    fn state_compare_and_set(
        &self,
        py: Python<'_>,
        key: &str,
        old: Option<&Bound<'_, PyTuple>>,
        new: Option<&Bound<'_, PyTuple>>,
    ) -> PyResult<bool> {
        let (old, new) = (old.map(decoded).transpose()?, new.map(decoded).transpose()?);
        self.ask(py, |host| host.state_compare_and_set(key, old, new))
    }

    fn state_scan<'py>(
        &self,
        py: Python<'py>,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> PyResult<Vec<(String, Bound<'py, PyTuple>)>> {
        let entries = self.ask(py, |host| host.state_scan(prefix, after, limit))?;
        entries.into_iter().map(|entry| Ok((entry.key, encoded(py, entry.value)?))).collect()
    }

    fn new_artifact(&self, py: Python<'_>) -> PyResult<std::ffi::OsString> {
        self.ask(py, |host| match host.new_artifact() {
            // `StateError` would name the wrong thing.
            Err(HostError::Refused(error)) => Ok(Err(PyRuntimeError::new_err(error.message))),
            other => other.map(|path| Ok(path.into_os_string())),
        })?
    }

    fn progress(
        &self,
        py: Python<'_>,
        fraction: Option<f64>,
        message: Option<String>,
        metrics: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let metrics = json::object_from_python(metrics)?;
        self.ask(py, |host| host.progress(Progress { fraction, message, metrics }))
    }

    fn is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, CallHost::is_cancelled)
    }
}

/// Sends the lines of `logging` in the name of whichever call is running.
#[pyclass(frozen)]
pub(crate) struct LogSink {
    current: std::sync::Mutex<Option<CallHost>>,
}

impl LogSink {
    pub(crate) fn new() -> Self {
        Self { current: std::sync::Mutex::new(None) }
    }

    /// From here on, lines belong to the call of `host`; once that has ended, to none.
    pub(crate) fn enter(&self, host: &CallHost) {
        *self.lock() = Some(host.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<CallHost>> {
        // The lock guards one assignment, which cannot be left half done.
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl LogSink {
    fn __call__(&self, py: Python<'_>, level: &str, message: &Bound<'_, pyo3::types::PyString>) -> PyResult<()> {
        let level: LogLevel = level.parse().map_err(|_| PyValueError::new_err(format!("`{level}` is no level")))?;
        let message = message.to_string_lossy().into_owned();
        if is_forked() {
            // Standard error is captured as well.
            eprintln!("{}: {message}", level.as_str());
            return Ok(());
        }
        let host = self.lock().clone();
        py.detach(|| {
            if let Some(host) = host {
                host.log(level, message);
            }
        });
        Ok(())
    }
}

/// Has forked copies of this process noted as such.
pub(crate) fn watch_forks(py: Python<'_>) -> PyResult<()> {
    let arguments = PyDict::new(py);
    arguments.set_item("after_in_child", pyo3::wrap_pyfunction!(note_fork, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&arguments))?;
    Ok(())
}

pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

#[pyfunction]
fn note_fork() {
    FORKED.store(true, Ordering::Relaxed);
}

fn raised(py: Python<'_>, error: &HostError) -> PyErr {
    let message = crate::chain(error);
    match error {
        HostError::Refused(refused) => state_error(py, &refused.code, &refused.message).unwrap_or_else(|error| error),
        HostError::Connection(_) => PyConnectionError::new_err(message),
        HostError::CallEnded | HostError::Unexpected(_) => PyRuntimeError::new_err(message),
    }
}

fn state_error(py: Python<'_>, code: &str, message: &str) -> PyResult<PyErr> {
    Ok(PyErr::from_value(py.import("dunnage._errors")?.getattr("StateError")?.call1((code, message))?))
}

/// A value of the state as the tuple that `dunnage._values.decode` takes.
fn encoded(py: Python<'_>, value: StateValue) -> PyResult<Bound<'_, PyTuple>> {
    match value {
        StateValue::Json(value) => ("json", json::to_python(py, &value)?).into_pyobject(py),
        StateValue::Bytes(bytes) => ("bytes", PyBytes::new(py, &bytes)).into_pyobject(py),
        StateValue::Array(array) if !array.is_consistent() => Err(PyValueError::new_err("an array's shape does not fit its bytes")),
        StateValue::Array(Array { dtype, shape, data }) => {
            ("array", dtype_name(dtype), PyTuple::new(py, shape)?, PyBytes::new(py, &data)).into_pyobject(py)
        }
    }
}

/// The tuple that `dunnage._values.encode` makes, as a value of the state.
fn decoded(value: &Bound<'_, PyTuple>) -> PyResult<StateValue> {
    let kind: String = value.get_item(0)?.extract()?;
    match kind.as_str() {
        "json" => json::from_python(&value.get_item(1)?).map(StateValue::Json),
        "bytes" => Ok(StateValue::Bytes(value.get_item(1)?.cast::<PyBytes>()?.as_bytes().to_vec())),
        "array" => {
            let (_, name, shape, data): (String, String, Vec<u64>, Bound<'_, PyBytes>) = value.extract()?;
            let dtype = DTYPES.iter().copied().find(|dtype| dtype_name(*dtype) == name);
            let dtype = dtype.ok_or_else(|| PyTypeError::new_err(format!("no arrays of `{name}` can be kept")))?;
            Ok(StateValue::Array(Array { dtype, shape, data: data.as_bytes().to_vec() }))
        }
        other => Err(PyTypeError::new_err(format!("`{other}` is no kind of value"))),
    }
}

const DTYPES: [Dtype; 10] =
    [Dtype::F32, Dtype::F64, Dtype::I8, Dtype::I16, Dtype::I32, Dtype::I64, Dtype::U8, Dtype::U16, Dtype::U32, Dtype::U64];

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F64 => "f64",
        Dtype::I8 => "i8",
        Dtype::I16 => "i16",
        Dtype::I32 => "i32",
        Dtype::I64 => "i64",
        Dtype::U8 => "u8",
        Dtype::U16 => "u16",
        Dtype::U32 => "u32",
        Dtype::U64 => "u64",
    }
}

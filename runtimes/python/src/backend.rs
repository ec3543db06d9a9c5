//! The [`Backend`] of Python: hands each call to `dunnage._worker`, with the interpreter's lock taken, where there is one.

use dunnage_protocol::{CallError, File, Functions, Load, MAX_PAYLOAD_BYTES, Output, Request, Run};
use dunnage_runtime::{Answers, Backend, CallHost, Host, Identity};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use serde_json::Value;

use crate::host::{self, LogSink, ServerHost};
use crate::{json, vector};

/// The longest result of a job, as JSON. A result is a summary; what is large belongs into the artifact or the state.
const MAX_RESULT_BYTES: usize = 4 << 20;

/// The interpreter this library was loaded into, and the script in it.
pub(crate) struct PythonBackend {
    /// The module `dunnage._worker`.
    module: Py<PyModule>,
    /// Its `Worker`.
    worker: Py<PyAny>,
    /// The function that answers one request, which its `output` makes; `None` where the script has none.
    answer: Option<Py<PyAny>>,
    log: Py<LogSink>,
    language: String,
    functions: Functions,
}

impl PythonBackend {
    /// Makes the interpreter ready for a script.
    pub(crate) fn new(module: &Bound<'_, PyModule>) -> PyResult<Self> {
        let py = module.py();
        host::watch_forks(py)?;
        let log = Py::new(py, LogSink::new())?;
        module.call_method1("prepare", (&log,))?;
        Ok(Self {
            module: module.clone().unbind(),
            worker: module.call_method0("Worker")?.unbind(),
            answer: None,
            log,
            language: language(py)?,
            functions: Functions::default(),
        })
    }
}

impl Backend for PythonBackend {
    fn identity(&self) -> Identity {
        Identity {
            runtime: "dunnage-python".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            language: self.language.clone(),
        }
    }

    fn load(&mut self, load: &Load, host: &Host) -> Result<Functions, CallError> {
        Python::attach(|py| {
            let loaded = self.load_script(py, load, &host.loading());
            end_forked_copy();
            self.functions = loaded.map_err(|error| self.describe(py, &error, true))?;
            Ok(self.functions)
        })
    }

    fn self_test(&mut self, host: &Host) -> Result<bool, CallError> {
        Python::attach(|py| {
            let passed = self.worker.call_method1(py, "self_test", (ServerHost::new(&host.loading()),));
            end_forked_copy();
            passed.and_then(|passed| passed.extract(py)).map_err(|error| self.describe(py, &error, true))
        })
    }

    fn output(&mut self, output: &Output, host: &CallHost, answers: &mut Answers) {
        Python::attach(|py| {
            self.log.get().enter(host);
            if self.functions.output_batch {
                self.answer_batch(py, output, host, answers);
            } else {
                self.answer_each(py, output, host, answers);
            }
            end_forked_copy();
        });
    }

    fn run(&mut self, run: &Run, host: &CallHost) -> Result<Value, CallError> {
        Python::attach(|py| {
            self.log.get().enter(host);
            let result = self.run_job(py, run, host);
            end_forked_copy();
            let value = result.map_err(|error| self.describe(py, &error, false))?;
            json::from_python(value.bind(py)).map_err(|error| bad_result(error.value(py).to_string())).and_then(checked_result)
        })
    }

    fn flush(&mut self) {
        Python::attach(|py| {
            if let Err(error) = self.module.call_method0(py, intern!(py, "flush")) {
                error.print(py);
            }
        });
    }
}

impl PythonBackend {
    fn load_script(&mut self, py: Python<'_>, load: &Load, host: &CallHost) -> PyResult<Functions> {
        self.log.get().enter(host);
        let common = PyDict::new(py);
        common.set_item("service", load.service.as_str())?;
        common.set_item("device", &load.device)?;
        common.set_item("version", load.artifact.as_ref().map(|artifact| artifact.version))?;
        common.set_item("artifact", load.artifact.as_ref().map(|artifact| artifact.path.as_os_str()))?;
        let arguments = (load.script.as_os_str(), common, ServerHost::new(host));
        let (train, input, output, output_batch, self_test) = self.worker.call_method1(py, "load", arguments)?.extract(py)?;
        if output {
            self.answer = Some(self.worker.call_method0(py, "output")?);
        }
        Ok(Functions { train, input, output: output || output_batch, output_batch, self_test })
    }

    /// One call of `output` a request, so that each fails alone.
    fn answer_each(&self, py: Python<'_>, output: &Output, host: &CallHost, answers: &mut Answers) {
        let mut room = MAX_PAYLOAD_BYTES;
        for request in &output.requests {
            let answered = self
                .call_output(py, output.deadline, request, host)
                .and_then(|value| self.add_vector(&value, "`output`", answers, &mut room));
            if let Err(error) = answered {
                answers.error(self.describe(py, &error, false));
            }
        }
    }

    fn call_output<'py>(
        &self,
        py: Python<'py>,
        deadline: Option<f64>,
        request: &Request,
        host: &CallHost,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(answer) = &self.answer else {
            // Says so by what it raises.
            return self.worker.bind(py).call_method0("output");
        };
        let (files, params) = (files_to_python(py, &request.files)?, json::object_to_python(py, &request.params)?);
        answer.bind(py).call1((ServerHost::new(host), deadline, files, params, &request.request_id))
    }

    /// One call of `output_batch`, which fails as a whole; an answer that is no vector fails alone.
    fn answer_batch(&self, py: Python<'_>, output: &Output, host: &CallHost, answers: &mut Answers) {
        let values = match self.call_batch(py, output, host) {
            Ok(values) => values,
            Err(error) => {
                let error = self.describe(py, &error, false);
                return output.requests.iter().for_each(|_| answers.error(error.clone()));
            }
        };
        let mut room = MAX_PAYLOAD_BYTES;
        for (index, value) in values.iter().enumerate() {
            let place = format!("`output_batch`, for request {index},");
            if let Err(error) = self.add_vector(value, &place, answers, &mut room) {
                answers.error(self.describe(py, &error, false));
            }
        }
    }

    fn call_batch<'py>(&self, py: Python<'py>, output: &Output, host: &CallHost) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let requests = output.requests.iter().map(|request| request_to_python(py, request)).collect::<PyResult<Vec<_>>>()?;
        let arguments = (ServerHost::new(host), output.deadline, PyList::new(py, requests)?);
        self.worker.bind(py).call_method1("output_batch", arguments)?.extract()
    }

    /// Adds one answer; `room` is how many bytes all answers together may still take up.
    fn add_vector(&self, value: &Bound<'_, PyAny>, place: &str, answers: &mut Answers, room: &mut usize) -> PyResult<()> {
        let module = self.module.bind(value.py());
        vector::read(module, value, place, |dtype, bytes| match room.checked_sub(bytes.len()) {
            Some(rest) => {
                *room = rest;
                answers.vector(dtype, bytes);
            }
            None => answers.error(CallError::new(
                "bad_output",
                format!("{place} returned {} bytes; a batch can be answered by at most {MAX_PAYLOAD_BYTES}", bytes.len()),
            )),
        })
    }

    fn run_job(&self, py: Python<'_>, run: &Run, host: &CallHost) -> PyResult<Py<PyAny>> {
        let common = PyDict::new(py);
        common.set_item("deadline", run.deadline)?;
        common.set_item("job_id", run.job.to_string())?;
        common.set_item("attempt", run.attempt)?;
        common.set_item("seed", run.seed)?;
        let params = json::object_to_python(py, &run.params)?;
        let arguments = (run.kind.as_str(), ServerHost::new(host), files_to_python(py, &run.files)?, params, common);
        self.worker.call_method1(py, "run", arguments)
    }

    /// What the server is told of an exception.
    fn describe(&self, py: Python<'_>, error: &PyErr, loading: bool) -> CallError {
        let module = self.module.bind(py);
        // `into_value`, unlike `value`, hands over the traceback as well.
        let exception = error.clone_ref(py).into_value(py);
        let described = module.call_method1("describe", (exception, loading)).and_then(|described| described.extract());
        match described {
            Ok(description) => call_error(description),
            Err(second) => {
                second.print(py);
                let code = if loading { "load_failed" } else { "script_error" };
                CallError::new(code, "the script raised an exception that cannot be described; see the worker's standard error")
            }
        }
    }
}

/// Which Python this is.
fn language(py: Python<'_>) -> PyResult<String> {
    let version = py.version_info();
    let flags: String = py.import("sys")?.getattr("abiflags")?.extract()?;
    let kind = if flags.contains('t') { ", free-threaded" } else { "" };
    Ok(format!("CPython {}.{}.{}{kind}", version.major, version.minor, version.patch))
}

type Text<'py> = Bound<'py, PyString>;

/// The tuple that `dunnage._worker.describe` returns.
fn call_error((code, message, traceback, retry_after): (Text<'_>, Text<'_>, Option<Text<'_>>, Option<f64>)) -> CallError {
    // An exception's text may hold lone surrogates; they are replaced.
    let text = |text: &Text<'_>| text.to_string_lossy().into_owned();
    CallError { code: text(&code), message: text(&message), traceback: traceback.as_ref().map(text), retry_after }
}

/// A forked copy of the worker that returns from the script would speak on its parent's connection.
fn end_forked_copy() {
    if host::is_forked() {
        eprintln!("dunnage-python: a process that the script forked came back from the script; ended it");
        std::process::exit(1);
    }
}

fn request_to_python<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyTuple>> {
    let params = json::object_to_python(py, &request.params)?;
    (files_to_python(py, &request.files)?, params, &request.request_id).into_pyobject(py)
}

fn files_to_python<'py>(py: Python<'py>, files: &[File]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, files.iter().map(|file| (file.path.as_os_str(), &file.uri, file.size, file.etag.as_deref())))
}

fn checked_result(value: Value) -> Result<Value, CallError> {
    let length = value.to_string().len();
    if length <= MAX_RESULT_BYTES {
        return Ok(value);
    }
    Err(bad_result(format!(
        "the result has {length} bytes as JSON; at most {MAX_RESULT_BYTES} are allowed; put it into the artifact"
    )))
}

fn bad_result(message: String) -> CallError {
    CallError::new("bad_result", message)
}

//! The extension module `_dunnage`: hosts a script in the interpreter that loaded it.
//!
//! `dunnage-python`, the launcher beside it, starts the user's own interpreter, which loads this module and calls `serve`.
//! The worker loop runs here, without the interpreter's lock; `backend.rs` takes it for each call. What is about Python's own
//! ways (forms of scripts, exceptions, odd values) is written in Python, in the package `dunnage`, whose sources this module
//! carries; see `sources.rs`.

mod backend;
mod host;
mod json;
mod sources;
mod sys;
mod vector;

use std::error::Error;

use pyo3::prelude::*;

use backend::PythonBackend;

/// The module. Not for scripts: they import `dunnage`.
///
/// It needs no interpreter's lock: an interpreter without one must not get one because this is imported. What several threads of a
/// script may reach at once is `host.rs`, which locks for itself, and the values they return, which `sys.rs` locks.
#[pymodule(gil_used = false)]
fn _dunnage(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(serve, module)?)
}

/// Serves on the socket that the server left at descriptor 3, then ends the process: with code 0 when the server has closed
/// the connection, with 1 when the script cannot be loaded or the connection fails.
#[pyfunction]
fn serve(py: Python<'_>) -> PyResult<()> {
    sources::install(py)?;
    let worker = py.import("dunnage._worker")?;
    let mut backend = PythonBackend::new(&worker)?;
    let ended = py.detach(|| {
        let socket = dunnage_runtime::inherited_socket()
            .map_err(|error| format!("descriptor 3 is no connection to a server, which starts this program itself: {error}"))?;
        dunnage_runtime::serve(socket, &mut backend).map_err(|error| chain(&error))
    });
    let code = match ended {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("dunnage-python: {message}");
            1
        }
    };
    worker.call_method1("leave", (code,))?;
    Ok(())
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

//! The package `dunnage`, carried as source text, so that one file ships all and always fits itself.

use std::ffi::CStr;

use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::PyDict;

const IMPORTER: &CStr = c_str!(include_str!("importer.py"));

macro_rules! sources {
    ($($name:literal => $file:literal),* $(,)?) => {
        const SOURCES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../dunnage/", $file)))),*];
    };
}

sources! {
    "dunnage" => "__init__.py",
    "dunnage._buffers" => "_buffers.py",
    "dunnage._context" => "_context.py",
    "dunnage._errors" => "_errors.py",
    "dunnage._failures" => "_failures.py",
    "dunnage._files" => "_files.py",
    "dunnage._host" => "_host.py",
    "dunnage._logging" => "_logging.py",
    "dunnage._script" => "_script.py",
    "dunnage._state" => "_state.py",
    "dunnage._values" => "_values.py",
    "dunnage._vectors" => "_vectors.py",
    "dunnage._worker" => "_worker.py",
    "dunnage.testing" => "testing.py",
}

/// Makes `import dunnage` find the package here, before any copy that is installed.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let sources = PyDict::new(py);
    for (name, source) in SOURCES {
        sources.set_item(name, source)?;
    }
    let importer = PyModule::from_code(py, IMPORTER, c"<dunnage>/importer.py", c"_dunnage_importer")?;
    importer.call_method1("install", (sources,))?;
    Ok(())
}

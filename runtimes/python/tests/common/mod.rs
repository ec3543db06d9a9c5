//! The runtime under test. Each test program uses its part.

#![allow(dead_code, reason = "a test program that uses less than all of it would be warned of the rest")]

use std::env;
use std::path::{Path, PathBuf};

use dunnage_runtime::suite::Subject;

/// The launcher with the module of this very build, which cargo leaves in `deps` when it builds for tests.
pub(crate) fn launcher() -> Vec<String> {
    let launcher = PathBuf::from(env!("CARGO_BIN_EXE_dunnage-python"));
    let name = format!("{}dunnage_python{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let module = launcher.with_file_name("deps").join(name);
    vec![path(&launcher), "--module".to_owned(), path(&module)]
}

/// The runtime with one interpreter.
pub(crate) fn subject(python: &str) -> Subject {
    let mut command = launcher();
    command.extend(["--python".to_owned(), python.to_owned()]);
    Subject { command, scripts: tests().join("scripts"), extension: "py".to_owned() }
}

/// The interpreter to test with.
pub(crate) fn python() -> String {
    env::var("DUNNAGE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// The folder of the tests.
pub(crate) fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

//! The runtime under test. Each test program uses its part.

#![allow(dead_code, reason = "a test program that uses less than all of it would be warned of the rest")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dunnage_runtime::suite::Subject;

/// Names a free-threaded Python to test on, which must then work.
const FREE_THREADED: &str = "DUNNAGE_TEST_FREE_THREADED_PYTHON";

/// The launcher with the module of this very build, which cargo leaves in `deps` when it builds for tests.
pub(crate) fn launcher() -> Vec<String> {
    let launcher = PathBuf::from(env!("CARGO_BIN_EXE_dunnage-python"));
    let name = format!("{}dunnage_python{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let module = launcher.with_file_name("deps").join(name);
    vec![path(&launcher), "--module".to_owned(), path(&module)]
}

/// The runtime with one interpreter.
pub(crate) fn subject(mut command: Vec<String>, python: &str) -> Subject {
    command.extend(["--python".to_owned(), python.to_owned()]);
    Subject { command, scripts: tests().join("scripts"), extension: "py".to_owned() }
}

/// The interpreter to test with.
pub(crate) fn python() -> String {
    env::var("DUNNAGE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// A free-threaded Python that can be tested on, and the launcher for it: with the modules that lie beside it, where `make
/// free-threaded` puts such a Python's own. `None`, which is said, where there is no such Python or no module for it.
pub(crate) fn free_threaded() -> Option<(PathBuf, Vec<String>)> {
    let named = env::var_os(FREE_THREADED).filter(|name| !name.is_empty()).map(PathBuf::from);
    let Some(python) = named.clone().or_else(find_free_threaded) else {
        eprintln!("skipped: there is no free-threaded Python; `make test-free-threaded` makes one");
        return None;
    };
    let launcher = vec![path(Path::new(env!("CARGO_BIN_EXE_dunnage-python")))];
    let started =
        Command::new(&launcher[0]).arg("--python").arg(&python).stdin(Stdio::null()).output().expect("the launcher starts");
    let said = String::from_utf8_lossy(&started.stderr);
    // So far comes who has loaded the module.
    if said.contains("descriptor 3 is no connection") {
        return Some((python, launcher));
    }
    assert!(named.is_none(), "{FREE_THREADED} cannot be tested on: {said}");
    eprintln!("skipped: {said}");
    None
}

fn find_free_threaded() -> Option<PathBuf> {
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/free-threaded-python/bin/python3"));
    let names = ["python3.15t", "python3.14t", "python3.13t"];
    names.into_iter().find_map(find).or_else(|| built.is_file().then_some(built))
}

/// A Python by name, on PATH or below pyenv's folder. pyenv's shims are passed over: they are there for versions that are not
/// chosen, too.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter(|folder| !folder.ends_with("shims"));
    on_path.chain(pyenv_folders()).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

fn pyenv_folders() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let Some(root) = env::var_os("PYENV_ROOT").map(PathBuf::from).or(home) else { return Vec::new() };
    let versions = std::fs::read_dir(root.join("versions")).into_iter().flatten();
    versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect()
}

/// The folder of the tests.
pub(crate) fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

//! Runs `python -m unittest` on the tests beside this file, with the interpreter in `DUNNAGE_TEST_PYTHON`, else `python3`,
//! and with a free-threaded one.
//! Tests that need numpy or torch are passed over, and say so, where that interpreter has none.

mod common;

use std::path::Path;
use std::process::Command;

#[test]
fn the_tests_in_python_pass() {
    pass(Path::new(&common::python()), &common::launcher());
}

#[test]
fn the_tests_in_python_pass_without_a_global_lock() {
    if let Some((python, launcher)) = common::free_threaded() {
        pass(&python, &launcher);
    }
}

fn pass(python: &Path, launcher: &[String]) {
    let launcher = launcher.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let status = Command::new(python)
        .args(["-B", "-m", "unittest", "discover", "-s"])
        .arg(common::tests())
        .env("DUNNAGE_TEST_COMMAND", launcher)
        .status()
        .expect("python starts");
    assert!(status.success(), "{status}");
}

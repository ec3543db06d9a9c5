//! Runs `python -m unittest` on the tests beside this file, with the interpreter in `DUNNAGE_TEST_PYTHON`, else `python3`.
//! Tests that need numpy or torch are passed over, and say so, where that interpreter has none.

mod common;

use std::process::Command;

#[test]
fn the_tests_in_python_pass() {
    let launcher = common::launcher().iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let status = Command::new(common::python())
        .args(["-B", "-m", "unittest", "discover", "-s"])
        .arg(common::tests())
        .env("DUNNAGE_TEST_COMMAND", launcher)
        .status()
        .expect("python starts");
    assert!(status.success(), "{status}");
}

//! The suite every runtime passes, on the interpreter in `DUNNAGE_TEST_PYTHON`, else `python3`.

mod common;

fn subject() -> dunnage_runtime::suite::Subject {
    common::subject(common::launcher(), &common::python())
}

dunnage_runtime::backend_suite!(subject());

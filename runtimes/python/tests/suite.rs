//! The suite every runtime passes, on the interpreter in `DUNNAGE_TEST_PYTHON`, else `python3`.

mod common;

fn subject() -> dunnage_runtime::suite::Subject {
    common::subject(&std::env::var("DUNNAGE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
}

dunnage_runtime::backend_suite!(subject());

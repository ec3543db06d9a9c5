//! The most important scenarios on every Python that is served: 3.10 to 3.13, where found on PATH or below pyenv's folder, and a
//! free-threaded one.

mod common;

use dunnage_runtime::suite::{self, Subject};

#[test]
fn python_3_10_is_served() {
    passes("python3.10");
}

#[test]
fn python_3_11_is_served() {
    passes("python3.11");
}

#[test]
fn python_3_12_is_served() {
    passes("python3.12");
}

#[test]
fn python_3_13_is_served() {
    passes("python3.13");
}

#[test]
fn a_free_threaded_python_is_served() {
    if let Some((python, launcher)) = common::free_threaded() {
        let subject = common::subject(launcher, python.to_str().expect("a path in UTF-8"));
        for scenario in IMPORTANT.iter().chain(&REMAINING) {
            scenario(&subject);
        }
    }
}

fn passes(name: &str) {
    let Some(interpreter) = common::find(name) else {
        eprintln!("skipped: there is no {name} on PATH or below pyenv's folder");
        return;
    };
    let subject = common::subject(common::launcher(), interpreter.to_str().expect("a path in UTF-8"));
    let version = name.trim_start_matches("python");
    let language = suite::Driver::spawn(&subject).hello.language.clone();
    assert!(language.starts_with(&format!("CPython {version}.")), "{language} should be a {name}");
    for scenario in IMPORTANT {
        scenario(&subject);
    }
}

const IMPORTANT: [fn(&Subject); 8] = [
    suite::a_script_answers_vectors,
    suite::a_script_in_the_first_wrappers_form_is_called_once_a_file,
    suite::a_batch_is_answered_in_order,
    suite::an_output_that_is_no_vector_is_refused,
    suite::a_broken_script_says_where,
    suite::progress_log_and_printed_lines_arrive_before_the_end,
    suite::state_reaches_the_server,
    suite::an_artifact_is_written_and_read_back,
];

/// Those that no ordinary Python does differently.
const REMAINING: [fn(&Subject); 6] = [
    suite::a_script_that_raises_fails_alone,
    suite::a_missing_function_is_named,
    suite::a_job_returns_what_the_script_returned,
    suite::a_refusal_reaches_the_script,
    suite::a_cancelled_job_is_told,
    suite::the_worker_exits_when_the_server_is_gone,
];

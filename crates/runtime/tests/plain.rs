//! The suite, against the runtime in `examples/runtime-plain`, which runs the scripts of the Python runtime's own tests.

use dunnage_runtime::suite::Subject;

fn subject() -> Subject {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    Subject {
        command: vec![format!("{root}/examples/runtime-plain/dunnage-plain")],
        scripts: format!("{root}/runtimes/python/tests/scripts").into(),
        extension: "py".to_owned(),
    }
}

// Less the one whose script imports the package `dunnage`, which this runtime does without.
dunnage_runtime::backend_suite!(subject();
    a_script_answers_vectors,
    a_script_in_the_first_wrappers_form_is_called_once_a_file,
    a_batch_is_answered_in_order,
    a_script_that_raises_fails_alone,
    an_output_that_is_no_vector_is_refused,
    a_missing_function_is_named,
    a_broken_script_says_where,
    a_job_returns_what_the_script_returned,
    progress_log_and_printed_lines_arrive_before_the_end,
    state_reaches_the_server,
    an_artifact_is_written_and_read_back,
    a_cancelled_job_is_told,
    the_worker_exits_when_the_server_is_gone,
);

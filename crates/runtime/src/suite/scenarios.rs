//! The scenarios. Each function's text says what its script has to do.

use std::fs;

use dunnage_protocol::{CallError, Functions, Request};
use dunnage_types::{JobKind, JsonObject, LogLevel};
use serde_json::{Value, json};

use super::{Driver, Subject};

/// `vector`: `output` answers three numbers: how many files there are, the sum of their sizes, and `Params.x`.
pub fn a_script_answers_vectors(subject: &Subject) {
    let mut driver = Driver::start(subject, "vector");
    assert_eq!(driver.functions, Functions { output: true, ..Functions::default() });
    let files = vec![driver.file("a.bin", b"abc"), driver.file("b.bin", b"")];
    let answers = driver.output(vec![Request { request_id: "r1".into(), files, params: object(json!({"x": 2.5})) }]);
    assert_eq!(answers, [Ok(vec![2.0, 3.0, 2.5])]);
    close_well(driver);
}

/// `legacy`: the form of the first wrappers. `handleTrainFile`, `handleInputFile` and `handleOutputFile` take a file's contents
/// (in Lua: name and contents); `handleOutputFile` answers the length of the contents as a single number.
pub fn a_script_in_the_first_wrappers_form_is_called_once_a_file(subject: &Subject) {
    let mut driver = Driver::start(subject, "legacy");
    assert_eq!(driver.functions, Functions { train: true, input: true, output: true, ..Functions::default() });
    let files = vec![driver.file("a.bin", b"abc"), driver.file("b.bin", b"de")];
    for kind in [JobKind::Train, JobKind::Input] {
        assert!(driver.run(kind, files.clone(), JsonObject::new()).is_ok());
    }
    assert_eq!(driver.output(vec![request(files, json!({}))]), [Ok(vec![3.0, 2.0])]);
    close_well(driver);
}

/// `batch`: `output_batch` answers `[Params.x, number of requests]` for each request. It fails as a whole when a request has
/// `Params.fail`.
pub fn a_batch_is_answered_in_order(subject: &Subject) {
    let mut driver = Driver::start(subject, "batch");
    assert!(driver.functions.output && driver.functions.output_batch);
    let batch = (0..5).map(|x| request(Vec::new(), json!({"x": x}))).collect();
    let expected: Vec<_> = (0..5).map(|x| Ok(vec![f64::from(x), 5.0])).collect();
    assert_eq!(driver.output(batch), expected);
    let failing = vec![request(Vec::new(), json!({"x": 1})), request(Vec::new(), json!({"fail": true}))];
    for answer in driver.output(failing) {
        assert_eq!(answer.unwrap_err().code, "script_error");
    }
    close_well(driver);
}

/// `raises`: `output` raises an error with the text `boom` when there is `Params.fail`, and otherwise answers `[1]`.
pub fn a_script_that_raises_fails_alone(subject: &Subject) {
    let mut driver = Driver::start(subject, "raises");
    let requests = vec![request(Vec::new(), json!({})), request(Vec::new(), json!({"fail": true})), request(Vec::new(), json!({}))];
    let answers = driver.output(requests);
    assert_eq!((&answers[0], &answers[2]), (&Ok(vec![1.0]), &Ok(vec![1.0])));
    assert_script_error(answers[1].as_ref().unwrap_err(), "boom");
    close_well(driver);
}

/// `bad_output`: `output` answers something that is no vector, chosen by `Params.case`: `nested` `[[1, 2]]`, `text`, `nothing`
/// (what a function without a return statement returns), `mixed` `[1, "a"]`.
pub fn an_output_that_is_no_vector_is_refused(subject: &Subject) {
    let mut driver = Driver::start(subject, "bad_output");
    for case in ["nested", "text", "nothing", "mixed"] {
        let answers = driver.output(vec![request(Vec::new(), json!({"case": case}))]);
        let error = answers[0].as_ref().unwrap_err();
        assert_eq!(error.code, "bad_output", "{case}: {error:?}");
        assert!(!error.message.is_empty(), "{case}");
    }
    close_well(driver);
}

/// `vector` again, which has no `train`.
pub fn a_missing_function_is_named(subject: &Subject) {
    let mut driver = Driver::start(subject, "vector");
    let error = driver.run(JobKind::Train, Vec::new(), JsonObject::new()).unwrap_err();
    assert_eq!(error.code, "function_missing");
    assert!(error.message.contains("train"), "{}", error.message);
    close_well(driver);
}

/// `broken`: cannot be loaded; it raises `broken on purpose` on its third line.
pub fn a_broken_script_says_where(subject: &Subject) {
    let mut driver = Driver::spawn(subject);
    let error = driver.load(&subject.script("broken"), None).unwrap_err();
    assert_eq!(error.code, "load_failed");
    assert!(error.message.contains("broken on purpose"), "{}", error.message);
    let status = driver.close();
    assert!(!status.success(), "a worker without a script should not exit as if all were well");
}

/// `job`: `train` returns `{"files": number of files, "x": Params.x}`; `input` returns nothing, and raises `no input today` when
/// there is `Params.fail`.
pub fn a_job_returns_what_the_script_returned(subject: &Subject) {
    let mut driver = Driver::start(subject, "job");
    let files = vec![driver.file("a.bin", b"abc")];
    let returned = driver.run(JobKind::Train, files.clone(), object(json!({"x": "text"}))).unwrap();
    assert_eq!(returned, json!({"files": 1, "x": "text"}));
    assert_eq!(driver.run(JobKind::Input, files, JsonObject::new()), Ok(Value::Null));
    let error = driver.run(JobKind::Input, Vec::new(), object(json!({"fail": true}))).unwrap_err();
    assert_script_error(&error, "no input today");
    close_well(driver);
}

/// `chatty`: `train` prints `a printed line`, reports progress 0.5 with the text `half` and the metric `loss` 0.25, and logs the
/// warning `a warning`.
pub fn progress_log_and_printed_lines_arrive_before_the_end(subject: &Subject) {
    let mut driver = Driver::start(subject, "chatty");
    driver.run(JobKind::Train, Vec::new(), JsonObject::new()).unwrap();
    let progress = driver.progress.first().expect("progress before the end");
    assert_eq!((progress.fraction, progress.message.as_deref()), (Some(0.5), Some("half")));
    assert_eq!(progress.metrics, object(json!({"loss": 0.25})));
    let warned =
        driver.log.iter().any(|line| line.level == LogLevel::Warning && line.message == "a warning" && line.call.is_some());
    assert!(warned, "{:?}", driver.log);
    let printed = driver.printed();
    assert!(printed.lines().any(|line| line == "a printed line"), "{printed:?}");
    close_well(driver);
}

/// `state`: `train` works through the state map and returns what it saw: sets `text` to `"ä"`, `bytes` to the bytes 0 and 255,
/// `n` by two increments of 2 and 0.5; compares and sets `text` from `"ä"` to `"b"` (`swapped`) and once more from `"ä"`
/// (`swapped_again`); removes `bytes` after reading it and looks for it again (`gone`); lists the keys that begin with `t`.
pub fn state_reaches_the_server(subject: &Subject) {
    let mut driver = Driver::start(subject, "state");
    if !driver.can("state") {
        return close_well(driver);
    }
    let returned = driver.run(JobKind::Train, Vec::new(), JsonObject::new()).unwrap();
    let expected = json!({
        "text": "ä", "length": 2, "sum": 2.5, "swapped": true, "swapped_again": false, "gone": true, "keys": ["text"],
    });
    assert_eq!(returned, expected);
    close_well(driver);
}

/// `too_large`: `train` sets `big` to a text of 2000 bytes, which this server refuses; `input` does so too, catches the error and
/// returns its text.
pub fn a_refusal_reaches_the_script(subject: &Subject) {
    let mut driver = Driver::start(subject, "too_large");
    if !driver.can("state") {
        return close_well(driver);
    }
    let error = driver.run(JobKind::Train, Vec::new(), JsonObject::new()).unwrap_err();
    assert_script_error(&error, "at most 1000 are allowed");
    let caught = driver.run(JobKind::Input, Vec::new(), JsonObject::new()).unwrap();
    assert!(caught.as_str().unwrap().contains("at most 1000 are allowed"), "{caught}");
    close_well(driver);
}

/// `artifact`: `train` writes `weights.txt` with the text of `Params.text` into the new artifact; `output` answers `[length of
/// weights.txt]` of the active artifact, or `[-1]` when there is none.
pub fn an_artifact_is_written_and_read_back(subject: &Subject) {
    let mut driver = Driver::start(subject, "artifact");
    if !driver.can("artifacts") {
        return close_well(driver);
    }
    assert_eq!(driver.output(vec![request(Vec::new(), json!({}))]), [Ok(vec![-1.0])]);
    driver.run(JobKind::Train, Vec::new(), object(json!({"text": "12345"}))).unwrap();
    assert_eq!(fs::read_to_string(driver.artifact().join("weights.txt")).unwrap(), "12345");
    let mut next = Driver::start_with(subject, "artifact", Some(&driver.artifact()));
    assert_eq!(next.output(vec![request(Vec::new(), json!({}))]), [Ok(vec![5.0])]);
    close_well(next);
    close_well(driver);
}

/// `patient`: `train` reports progress, then waits until it is cancelled and returns `"cancelled"`.
pub fn a_cancelled_job_is_told(subject: &Subject) {
    let mut driver = Driver::start(subject, "patient");
    if !driver.can("cancel") {
        return close_well(driver);
    }
    let call = driver.begin(JobKind::Train, Vec::new(), JsonObject::new());
    driver.await_progress();
    driver.cancel(call);
    assert_eq!(driver.finish(call), Ok(json!("cancelled")));
    close_well(driver);
}

/// `vector` again: a worker whose server is gone ends by itself.
pub fn the_worker_exits_when_the_server_is_gone(subject: &Subject) {
    close_well(Driver::start(subject, "vector"));
}

fn close_well(driver: Driver) {
    let status = driver.close();
    assert!(status.success(), "the worker should end with code 0, but: {status}");
}

fn assert_script_error(error: &CallError, text: &str) {
    assert_eq!(error.code, "script_error", "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
    assert!(error.traceback.as_ref().is_some_and(|traceback| !traceback.is_empty()), "{error:?}");
}

fn request(files: Vec<dunnage_protocol::File>, params: Value) -> Request {
    Request { request_id: "r".to_owned(), files, params: object(params) }
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

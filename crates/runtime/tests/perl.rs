//! The suite, against the runtime in `examples/runtime-perl`, and what is particular to Perl.

use std::process::Command;

use dunnage_protocol::Request;
use dunnage_runtime::suite::{Driver, Subject};
use dunnage_types::{JobKind, JsonObject};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/runtime-perl");

/// The runtime, or `None` where there is no Perl that can run it.
fn subject() -> Option<Subject> {
    let perl = Command::new("perl").args(["-e", "use v5.36"]).output();
    if !perl.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no `perl` of version 5.36 or later on PATH");
        return None;
    }
    Some(Subject {
        command: vec![format!("{FOLDER}/dunnage-perl")],
        scripts: format!("{FOLDER}/tests/scripts").into(),
        extension: "pl".to_owned(),
    })
}

dunnage_runtime::backend_suite!({
    let Some(subject) = subject() else { return };
    subject
});

#[test]
fn values_come_back_as_they_were() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    let integers = json!([0, 127, 128, 255, 256, 65535, 65536, 4_294_967_295_u32, 4_294_967_296_u64, i64::MAX, u64::MAX]);
    let negative = json!([-1, -32, -33, -128, -129, -32768, -32769, i32::MIN, i64::from(i32::MIN) - 1, i64::MIN]);
    let texts: Vec<String> = [0, 1, 31, 32, 255, 256, 65535, 65536].map(|length| "ä".repeat(length)).to_vec();
    let long: Vec<i32> = (0..70_000).collect();
    let params = json!({
        "case": "params", "integers": integers, "negative": negative, "texts": texts, "long": long, "ü": {"": []},
        "floats": [0.5, -0.1, 1e-300, 1.7e308, 100_000.000_000_000_01, 1e15 + 0.5, 0.1 + 0.2], "words": [true, false, null, "5", "1e3", "true"],
        "array": (0..20).collect::<Vec<_>>(), "map": (0..20).map(|key| (key.to_string(), json!(key))).collect::<JsonObject>(),
    });
    assert_eq!(driver.run(JobKind::Train, Vec::new(), object(params.clone())), Ok(params));
}

#[test]
fn arrays_are_kept_with_their_shape() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    let returned = driver.run(JobKind::Train, Vec::new(), object(json!({"case": "state"})));
    assert_eq!(returned, Ok(json!({"dtype": "f32", "shape": [2, 2], "values": [1, 2.5, -3, 0], "same": true})));
}

#[test]
fn results_that_cannot_be_sent_fail_the_job_and_not_the_worker() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    for case in ["code", "deep", "infinite", "long"] {
        let error = driver.run(JobKind::Train, Vec::new(), object(json!({"case": case}))).unwrap_err();
        assert_eq!(error.code, "bad_result", "{case}: {error:?}");
    }
    let returned = driver.run(JobKind::Train, Vec::new(), object(json!({"case": "surrogate"})));
    assert_eq!(returned, Ok(json!("\u{fffd}b")));
}

#[test]
fn a_script_can_ask_for_another_attempt() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    let error = driver.run(JobKind::Train, Vec::new(), object(json!({"case": "retry"}))).unwrap_err();
    assert_eq!((error.code.as_str(), error.message.as_str(), error.retry_after), ("script_retry", "not yet", Some(30.0)));
}

#[test]
fn a_script_can_stop_when_it_is_cancelled() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    let call = driver.begin(JobKind::Train, Vec::new(), object(json!({"case": "stop"})));
    driver.await_progress();
    driver.cancel(call);
    assert_eq!(driver.finish(call).unwrap_err().code, "script_cancelled");
}

#[test]
fn a_context_is_closed_when_its_call_has_ended() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    assert_eq!(driver.run(JobKind::Input, Vec::new(), JsonObject::new()), Ok(Value::Null));
    let error = driver.run(JobKind::Input, Vec::new(), JsonObject::new()).unwrap_err();
    assert!(error.message.contains("this call has ended"), "{error:?}");
}

#[test]
fn the_script_s_children_do_not_inherit_the_socket() {
    let Some(subject) = subject() else { return };
    let mut driver = Driver::start(&subject, "perl");
    assert_eq!(driver.run(JobKind::Train, Vec::new(), object(json!({"case": "children"}))), Ok(json!(false)));
}

#[test]
fn the_example_model_learns_and_answers() {
    let Some(subject) = subject() else { return };
    let subject = Subject { scripts: FOLDER.into(), ..subject };
    let mut driver = Driver::start(&subject, "model");
    let known = vec![driver.file("known.csv", b"1, 2\n3 4"), driver.file("more.csv", b"5\n")];
    let returned = driver.run(JobKind::Train, known.clone(), JsonObject::new());
    assert_eq!(returned, Ok(json!({"mean": 3, "variance": 2, "numbers": 5})));
    assert_eq!(driver.run(JobKind::Input, known, JsonObject::new()), Ok(json!({"seen": 5})));
    let mut trained = Driver::start_with(&subject, "model", Some(&driver.artifact()));
    let request = |file| Request { request_id: "r".to_owned(), files: vec![file], params: JsonObject::new() };
    let new = request(trained.file("new.csv", b"4 6"));
    assert_eq!(trained.output(vec![new]), [Ok(vec![5.0, 1.0, 2.0 / 2.0_f64.sqrt()])]);
    let empty = request(trained.file("empty.csv", b""));
    assert_eq!(trained.output(vec![empty])[0].as_ref().unwrap_err().code, "script_error");
}

fn object(value: Value) -> JsonObject {
    serde_json::from_value(value).expect("an object")
}

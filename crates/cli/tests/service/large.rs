//! Bodies that are long, deep or wide.

use std::fmt::Write;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;

/// How long the longest of them may hold anybody up, unoptimized and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the server itself may be busy with one that is as long as bodies may be by default, also where nothing was optimized. Most
/// take less than a millisecond; a hundred thousand parameters take the longest.
const MOMENT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 500 });
const MILLION: usize = 1_000_000;

fn listed(count: usize, item: impl Fn(usize) -> String) -> String {
    let mut list = String::new();
    (0..count).for_each(|index| {
        let separator = if index == 0 { "" } else { "," };
        write!(list, "{separator}{}", item(index)).expect("a text takes any text");
    });
    list
}

fn with_params(value: &str) -> String {
    format!(r#"{{"Files":["s3://abc/k"],"Params":{value}}}"#)
}

/// Bodies that nobody sends by accident, with what is answered where their size is allowed.
fn bodies() -> Vec<(&'static str, String, u16, &'static str)> {
    let keys = || listed(MILLION, |index| format!("\"{index:x}\":0"));
    vec![
        ("a million fields", format!("{{{}}}", keys()), 422, "request_invalid"),
        (
            "a million parameters, and one file too many",
            with_params(&format!("{{{}}}", keys())).replacen("\"s3", "\"\",\"s3", 1),
            422,
            "file_address_invalid",
        ),
        (
            "a million files",
            format!(r#"{{"Files":[{}]}}"#, listed(MILLION, |_| r#""s3://abc/k""#.to_owned())),
            422,
            "too_many_files",
        ),
        (
            "a million empty lists",
            with_params(&format!("{{\"a\":[{}]}}x", listed(MILLION, |_| "[]".to_owned()))),
            400,
            "body_malformed",
        ),
        (
            "lists in lists",
            with_params(&format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))),
            400,
            "body_malformed",
        ),
        ("objects in objects", with_params(&"{\"a\":".repeat(100_000)), 400, "body_malformed"),
        ("a number of 10000 digits", with_params(&format!("{{\"a\":{}}}", "9".repeat(10_000))), 400, "body_malformed"),
        ("a number that is too large", with_params("{\"a\":1e999}"), 400, "body_malformed"),
        (
            "a file's name of 10 MB",
            format!(r#"{{"Files":["s3://abc/{}"]}}"#, "k".repeat(10 * MILLION)),
            422,
            "file_address_invalid",
        ),
        ("a key of 10 MB", format!(r#"{{"Files":["s3://abc/k"],"Key":"{}"}}"#, "k".repeat(10 * MILLION)), 422, "request_invalid"),
        ("a field's name of 10 MB", format!(r#"{{"{}":1}}"#, "k".repeat(10 * MILLION)), 422, "request_invalid"),
        ("10 MB of blanks", " ".repeat(10 * MILLION), 400, "body_malformed"),
    ]
}

#[track_caller]
fn refuses(service: &Service, call: &str, (what, body, status, code): &(&str, String, u16, &str)) {
    let begin = Instant::now();
    let answer = service.send(&Request::new("POST", call).body("application/json", body.as_str()));
    assert_eq!(answer.status, *status, "{what}: {answer}");
    assert!(answer.expect_problem(*status, code).len() < 1000, "{what}: the answer is short");
    assert!(begin.elapsed() < PATIENCE, "{what} took {:?}", begin.elapsed());
    assert_eq!(service.get("/healthz/live").status, 200);
}

#[test]
fn bodies_that_are_long_deep_or_wide_are_refused_in_time() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--max-body", "32MiB"]);
    let service = setup.start();
    for body in bodies() {
        refuses(&service, "/output", &body);
    }
    assert_eq!(service.output(&setup.body(serde_json::json!({}))), [6.0]);
}

#[test]
fn by_default_most_of_them_are_too_long_to_be_read() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    for (what, body, status, code) in bodies() {
        let is_long = body.len() > 1 << 20;
        let expected = if is_long { (413, "body_too_large") } else { (status, code) };
        refuses(&service, "/input", &(what, body, expected.0, expected.1));
    }
}

/// What the server spends on one of them, whoever else uses the machine: the least of several times.
fn least_time(service: &Service, body: &str) -> Duration {
    let once = || {
        let answer = service.send(&Request::new("POST", "/input").body("application/json", body));
        let id = answer.header("x-request-id").expect("every answer has an id").to_owned();
        let told = || {
            let line = service.log().into_iter().rev().find(|line| line.contains(&id))?;
            serde_json::from_str::<serde_json::Value>(&line).ok()?["duration_us"].as_u64()
        };
        Duration::from_micros(eventually("the request is in the log", PATIENCE, told))
    };
    (0..5).map(|_| once()).min().expect("there were some")
}

#[test]
fn none_of_them_takes_longer_than_a_moment_within_the_default_limits() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let cut = |body: String| body.chars().take((1 << 20) - 1).collect::<String>();
    for (what, body) in bodies().into_iter().map(|(what, body, ..)| (what, cut(body))) {
        let took = least_time(&service, &body);
        eprintln!("{what}: {took:?}");
        assert!(took < MOMENT, "{what} took {took:?}");
    }
}

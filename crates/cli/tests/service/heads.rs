//! Heads of requests that are too long, too slow to be a head at all, or not to be answered before their body.

use std::time::Duration;

use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::raw::Raw;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::json;

/// For the end of a connection that is to be closed, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

in_both_languages!(
    heads_beyond_the_limits_are_refused_and_end_the_connection,
    what_can_be_refused_by_its_head_is_refused_before_its_body_is_asked_for,
);

#[track_caller]
fn refused(service: &Service, request: &str, status: u16, code: &str) {
    let answers = Raw::connect(service).sent(request).answers(PATIENCE);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers[0].expect_problem(status, code);
    assert_eq!(answers[0].header("connection"), Some("close"), "{}", answers[0]);
}

fn heads_beyond_the_limits_are_refused_and_end_the_connection(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    Raw::connect(&service).sent(get(&path(8 << 10), "")).answer().expect_problem(404, "unknown_path");
    // Longer than the server allows, than the library reads, and than it keeps.
    for length in [(8 << 10) + 1, 65_534, 65_535, 200_000] {
        refused(&service, &get(&path(length), ""), 414, "target_too_long");
    }
    refused(&service, &get("/jobs", &format!("X: {}\r\n", "a".repeat(64 << 10))), 431, "head_too_large");
    refused(&service, &get("/jobs", &"Some: thing\r\n".repeat(5000)), 431, "head_too_large");
    refused(&service, &get("/jobs", &"X: a\r\n".repeat(97)), 431, "head_too_large");
    refused(&service, &get("/jobs", &format!("X: {}\r\n", "a".repeat(200_000))), 431, "head_too_large");
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
    assert!(service.metric("dunnage_http_requests_total", "status=\"431\"") >= 3.0, "refusals are counted");
    assert!(service.metric("dunnage_http_connections_cut_total", "head") >= 4.0, "and so are the connections");
}

fn what_can_be_refused_by_its_head_is_refused_before_its_body_is_asked_for(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--max-body", "1KiB", "--max-upload", "2KiB"]);
    let service = setup.start();
    let body = setup.body(json!({})).to_string();
    let asking = |path: &str, content_type: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let json = "application/json";
    for call in ["/output", "/train", "/input"] {
        refused(&service, &asking(call, json, 1025), 413, "body_too_large");
        refused(&service, &asking(call, "multipart/form-data; boundary=cut", 2049), 413, "body_too_large");
        refused(&service, &asking(call, "text/plain", 5), 415, "content_type_unsupported");
    }
    refused(&service, &asking("/nowhere", json, body.len()), 404, "unknown_path");
    refused(&service, &asking("/jobs", json, body.len()), 405, "method_not_allowed");

    let mut raw = Raw::connect(&service).sent(asking("/output", json, body.len()));
    assert_eq!(raw.answer().status, 100, "the body is wanted");
    assert!(raw.is_quiet(Duration::from_millis(200)), "the answer waits for the body");
    let mut raw = raw.sent(&body);
    raw.answer().expect(200);
    let mut raw = raw.sent(asking("/input", json, body.len()));
    assert_eq!(raw.answer().status, 100, "the connection goes on");
    raw.sent(&body).answer().expect(202);
}

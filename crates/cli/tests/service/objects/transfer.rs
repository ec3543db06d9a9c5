//! Ways that fail for a while or for good: what may help is tried again, and told by its code when it did not.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::{Answer, End, Request};
use serde_json::json;

use super::{address, body, contents, count, key, setup, sizes};

/// How often one request is sent when it fails each time.
const TRIES: usize = 4;
const STALL: [&str; 2] = ["--fetch-stall", "300ms"];

fn walk() -> Vec<u8> {
    (0..20_000_u32).map(|index| (index % 251) as u8).collect()
}

fn cut(request: &Request, end: End) -> Answer {
    Answer::object(request, &walk(), "\"one\"").ending(end)
}

/// A way to fail, its code, and how often it is tried in one attempt.
type Failing = (&'static str, &'static str, fn(&Request) -> Answer);

const FAILING: [Failing; 8] = [
    ("slow-down", "s3_throttled", |_| Answer::error(503, "SlowDown")),
    ("too-many", "s3_throttled", |_| Answer::status(429)),
    ("broken", "s3_unavailable", |_| Answer::error(500, "InternalError")),
    ("gateway", "s3_unavailable", |_| Answer {
        body: b"<html>bad gateway</html>".to_vec(),
        ..Answer::status(502).with("content-type", "text/html")
    }),
    ("fin", "file_truncated", |request| cut(request, End::Fin(0))),
    ("rst", "file_truncated", |request| cut(request, End::Rst(0))),
    ("stall", "s3_stalled", |request| cut(request, End::Silence(100))),
    ("drip", "s3_stalled", |request| cut(request, End::Drip(100))),
];

#[test]
fn a_way_that_fails_for_good_is_told_by_its_code_after_some_tries() {
    std::thread::scope(|scope| {
        for failing in &FAILING {
            scope.spawn(move || fails_for_good(failing));
        }
    });
}

fn fails_for_good(&(name, code, answer): &Failing) {
    let s3 = Scripted::start(answer);
    let setup = setup(&s3.endpoint).flags(&STALL).flags(&["--max-attempts", "2", "--prefetch", "0"]);
    let service = setup.start();
    let detail = sizes(&service, &[name]).expect_problem(503, code);
    assert!(detail.contains(&address(name)), "{name}: {detail}");
    assert_eq!(count(&s3, name), TRIES, "{name}");
    let status = service.ended(&service.submit("/input", &body(&["job"], json!({}))));
    assert_eq!((&status["error"]["code"], &status["attempt"]), (&json!(code), &json!(2)), "{name}: {status}");
    assert!(status["error"]["message"].as_str().unwrap().contains(&address("job")), "{name}: {status}");
    assert_eq!(count(&s3, "job"), 2 * TRIES, "{name}");
}

#[test]
fn a_way_that_fails_once_is_not_noticed() {
    let s3 = Scripted::start(|request| {
        let failing = FAILING.iter().find(|(name, ..)| *name == key(request));
        match failing {
            Some((_, _, answer)) if request.range().is_none() && request.header("if-match").is_none() => answer(request),
            _ => Answer::object(request, &walk(), "\"one\""),
        }
    });
    let setup = setup(&s3.endpoint).flags(&STALL);
    let service = setup.start();
    for name in ["fin", "rst", "stall", "drip"] {
        assert!(contents(&service, name) == walk(), "{name}");
        assert_eq!(count(&s3, name), 2, "{name}: what was missing is asked for, and nothing else");
    }
}

#[test]
fn an_answer_that_fails_once_is_not_noticed() {
    let s3 = Scripted::start(|request| match request.index % 2 {
        0 => FAILING[request.index / 2].2(request),
        _ => Answer::object(request, &walk(), "\"one\""),
    });
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    for (name, ..) in &FAILING[..4] {
        assert!(contents(&service, name) == walk(), "{name}");
        assert_eq!(count(&s3, name), 2, "{name}");
    }
}

#[test]
fn an_object_replaced_once_while_it_arrives_is_had_as_it_is_then() {
    let old = vec![b'0'; 20_000];
    let s3 = Scripted::start(move |request| match request.index {
        0 => Answer::object(request, &old, "\"old\"").ending(End::Fin(10_000)),
        _ => Answer::object(request, &walk(), "\"new\""),
    });
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    assert!(contents(&service, "walk") == walk());
}

#[test]
fn a_client_is_told_how_long_s3_wants_to_be_left_alone() {
    let s3 = Scripted::start(|_| Answer::error(503, "SlowDown").with("retry-after", "42"));
    let setup = setup(&s3.endpoint);
    let answer = sizes(&setup.start(), &["walk"]);
    answer.expect_problem(503, "s3_throttled");
    assert_eq!(answer.header("retry-after"), Some("42"));
    assert_eq!(s3.requests().len(), 1, "that is longer than a request is tried again");
}

#[test]
fn nobody_who_listens_is_told_too() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let setup = setup(&format!("http://127.0.0.1:{port}")).flags(&["--max-attempts", "2"]);
    let service = setup.start();
    let detail = sizes(&service, &["walk"]).expect_problem(503, "s3_unavailable");
    assert!(detail.contains("the connection was refused") && detail.contains(&address("walk")), "{detail}");
    assert!(!detail.contains(&port.to_string()), "clients are not told where S3 is: {detail}");
    let status = service.ended(&service.submit("/input", &body(&["walk"], json!({}))));
    assert_eq!((&status["error"]["code"], &status["attempt"]), (&json!("s3_unavailable"), &json!(2)), "{status}");
}

#[test]
fn an_object_that_takes_too_long_ends_with_the_time_there_is() {
    let s3 = Scripted::start(|request| cut(request, End::Silence(10)));
    let setup = setup(&s3.endpoint);
    for flags in [["--timeout", "700ms"], ["--fetch-timeout", "700ms"]] {
        let service = setup.start_with(&flags);
        let begin = Instant::now();
        let detail = sizes(&service, &["walk"]).expect_problem(504, "deadline_exceeded");
        assert!(detail.contains(&address("walk")), "{detail}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{flags:?} took {:?}", begin.elapsed());
    }
}

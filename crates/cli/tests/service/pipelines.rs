//! More than one request on a connection, and connections that end in the middle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::raw::Raw;
use dunnage_testing::service::{signal, vector};
use dunnage_testing::setup::Setup;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

in_both_languages!(
    requests_sent_ahead_are_answered_in_their_order,
    what_follows_a_refused_request_is_its_own_request_or_none,
    connections_that_end_in_the_middle_leave_nothing_behind,
    clients_of_kept_connections_are_told_of_the_end_and_lose_no_request,
);

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn requests_sent_ahead_are_answered_in_their_order(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--workers", "2"]);
    let service = setup.start();
    let numbered = |number: i32| match number % 3 {
        0 => "GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        1 => post("/output", &setup.body(json!({"case": "values", "values": [number]})).to_string()),
        _ => post("/output", "{}"),
    };
    let all: String = (0..100).map(numbered).collect();
    let mut raw = Raw::connect(&service).sent(all);
    for number in 0..100 {
        let answer = raw.answer();
        match number % 3 {
            0 => assert_eq!(answer.expect(200)["jobs"], json!([])),
            1 => assert_eq!(vector(&answer), [f64::from(number)]),
            _ => drop(answer.expect_problem(422, "files_missing")),
        }
    }
    assert!(raw.is_quiet(Duration::from_millis(200)), "nothing else is answered");
    raw.sent(numbered(1)).answer().expect(200);
}

fn what_follows_a_refused_request_is_its_own_request_or_none(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--max-body", "1KiB"]);
    let service = setup.start();
    let get = "GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let smuggled = post("/input", &setup.body(json!({})).to_string());
    // A body that was read to its end leaves the connection as it was.
    let mut raw = Raw::connect(&service).sent(post("/output", "{\"Files\": 3}"));
    raw.answer().expect_problem(422, "request_invalid");
    raw.sent(get).answer().expect(200);
    // One that was not could be taken for a request, so nothing more is.
    for (path, body, status) in [
        ("/nowhere", smuggled.clone(), 404),
        ("/jobs", smuggled.clone(), 405),
        ("/output", smuggled.repeat(9), 413),
        ("/models/7/activate", smuggled.clone(), 404),
    ] {
        let answers = Raw::connect(&service).sent(post(path, &body) + get).answers(PATIENCE);
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{path}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{path}");
    }
    let chunked = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut raw = Raw::connect(&service).sent(chunked);
    let (begin, part) = (Instant::now(), "5\r\nhello\r\n".repeat(1000));
    let mut endless = std::iter::repeat_with(|| raw.send(&part)).take_while(|_| begin.elapsed() < PATIENCE);
    assert!(endless.any(|sent| sent.is_err()), "an endless body that nobody reads is cut off");
    let last = format!("GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n{smuggled}");
    assert_eq!(Raw::connect(&service).sent(last).answers(PATIENCE).len(), 1, "nothing follows the last request");
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]), "none has made a job");
}

fn connections_that_end_in_the_middle_leave_nothing_behind(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let whole = post("/output", &setup.body(json!({})).to_string());
    let upload = "POST /train HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=cut\r\n\
                  Content-Length: 9999\r\n\r\n--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nhalf";
    let long = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    service.get("/jobs").expect(200);
    let descriptors = service.descriptors();
    for _ in 0..20 {
        Raw::connect(&service).sent(&whole[..40]).reset();
        Raw::connect(&service).sent(&whole[..whole.len() - 1]).reset();
        Raw::connect(&service).sent(upload).reset();
        Raw::connect(&service).sent(&whole).reset();
        let mut answered = Raw::connect(&service).sent(&long);
        answered.skip(1000);
        answered.reset();
        let half = Raw::connect(&service).sent(upload);
        half.shut();
        drop(half);
        let mut done = Raw::connect(&service).sent(&whole);
        done.answer().expect(200);
        done.shut();
        assert!(done.answers(PATIENCE).is_empty(), "a client that has sent its last is not waited for");
    }
    eventually("every descriptor is closed", PATIENCE, || (service.descriptors() <= descriptors + 1).then_some(()));
    eventually("every connection is gone", PATIENCE, || (service.metric("dunnage_http_connections", "") == 1.0).then_some(()));
    assert_eq!(std::fs::read_dir(setup.data("uploads")).unwrap().count(), 0);
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
}

fn clients_of_kept_connections_are_told_of_the_end_and_lose_no_request(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let request = post("/output", &setup.body(json!({})).to_string());
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut raw = Raw::connect(&service);
                    loop {
                        raw.send(&request).unwrap();
                        let answer = raw.answer();
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, Ordering::Relaxed);
                        if answer.header("connection") == Some("close") {
                            return raw.answers(PATIENCE).len();
                        }
                    }
                })
            })
            .collect();
        eventually("requests are answered", PATIENCE, || (answered.load(Ordering::Relaxed) > 100).then_some(()));
        signal(service.pid(), "TERM");
        for client in clients {
            assert_eq!(client.join().unwrap(), 0, "nothing follows the last answer");
        }
    });
    assert_eq!(service.await_end().0.code(), Some(0));
}

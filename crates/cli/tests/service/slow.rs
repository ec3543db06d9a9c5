//! Clients that are slow, on purpose or not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Response;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::raw::Raw;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::json;

/// For what has to happen some time after a second, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const QUICKLY_OVER: [&str; 10] =
    ["--head-timeout", "1s", "--body-grace", "1s", "--min-body-rate", "1KiB", "--write-timeout", "1s", "--keep-alive", "1s"];
const HEAD: &str = "HTTP/1.1\r\nHost: localhost\r\n";

in_both_languages!(
    heads_that_do_not_come_in_time_are_refused,
    bodies_that_do_not_come_in_time_are_refused,
    an_answer_that_is_not_taken_ends_its_connection_and_holds_no_worker,
    an_answer_that_is_taken_too_slowly_ends_its_connection_and_others_do_not,
    slow_clients_do_not_disturb_others,
);

/// Sends a byte every now and then until the other end has had enough, and returns its answers.
#[track_caller]
fn dripped(mut raw: Raw, byte: &str) -> Vec<Response> {
    let begin = Instant::now();
    while raw.is_quiet(Duration::from_millis(50)) {
        assert!(begin.elapsed() < PATIENCE, "nobody minds how slow it is");
        if raw.send(byte).is_err() {
            break;
        }
    }
    raw.answers(PATIENCE)
}

#[track_caller]
fn only_refused(answers: &[Response], code: &str) {
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers[0].expect_problem(408, code);
    assert_eq!(answers[0].header("connection"), Some("close"), "{}", answers[0]);
}

fn heads_that_do_not_come_in_time_are_refused(language: Language) {
    let setup = Setup::new(language, "calls").flags(&QUICKLY_OVER);
    let service = setup.start();
    let begin = Instant::now();
    only_refused(&Raw::connect(&service).answers(PATIENCE), "head_too_slow");
    assert!(begin.elapsed() >= Duration::from_secs(1), "it was given its time");
    only_refused(&Raw::connect(&service).sent(format!("GET /jobs {HEAD}")).answers(PATIENCE), "head_too_slow");
    only_refused(&dripped(Raw::connect(&service).sent("GET /jobs HTTP/1.1\r\nX: "), "x"), "head_too_slow");
    // The second request of a connection has no more time than the first.
    let mut raw = Raw::connect(&service).sent(format!("GET /jobs {HEAD}\r\n"));
    raw.answer().expect(200);
    only_refused(&dripped(raw.sent(format!("GET /jobs {HEAD}")), "x"), "head_too_slow");
    // What was sent ahead is waited for no longer than anything else.
    let mut raw = Raw::connect(&service).sent(format!("GET /jobs {HEAD}\r\nGET /jo"));
    raw.answer().expect(200);
    assert!(raw.answers(PATIENCE).len() <= 1);
    let mut raw = Raw::connect(&service).sent(format!("GET /jobs {HEAD}\r\n"));
    raw.answer().expect(200);
    assert!(raw.answers(PATIENCE).is_empty(), "a quiet connection ends without a word");
}

fn bodies_that_do_not_come_in_time_are_refused(language: Language) {
    let setup = Setup::new(language, "calls").flags(&QUICKLY_OVER);
    let service = setup.start();
    let json = "Content-Type: application/json\r\n";
    let form = "Content-Type: multipart/form-data; boundary=cut\r\n";
    let part = "--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nx";
    let sized = "Content-Length: 100000\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for call in ["/train", "/input", "/output"] {
        let post = |headers: &str, body: &str| Raw::connect(&service).sent(format!("POST {call} {HEAD}{headers}\r\n{body}"));
        only_refused(&post(&[json, sized].concat(), "{").answers(PATIENCE), "body_too_slow");
        only_refused(&dripped(post(&[json, sized].concat(), "{"), " "), "body_too_slow");
        only_refused(&dripped(post(&[form, sized].concat(), part), "x"), "body_too_slow");
        only_refused(&dripped(post(&[json, chunked].concat(), ""), "1\r\n \r\n"), "body_too_slow");
        only_refused(&dripped(post(&[json, chunked].concat(), "1;"), "x"), "body_too_slow");
        only_refused(&dripped(post(&[json, chunked].concat(), "1\r\n{\r\n0\r\n"), "x"), "body_too_slow");
    }
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
    assert_eq!(std::fs::read_dir(setup.data("uploads")).unwrap().count(), 0, "what had come is removed");
}

/// Answers more than a connection holds by itself.
fn large_answer(language: Language) -> &'static str {
    match language {
        Language::Python => "def output(files, ctx):\n    return [0.123456789] * ctx.params['count']\n",
        Language::Lua => {
            "return { output = function(_, ctx)\n  local all = {}\n  for place = 1, ctx.params.count do all[place] = 0.123456789 end\n\
             return all\nend }\n"
        }
    }
}

fn an_answer_that_is_not_taken_ends_its_connection_and_holds_no_worker(language: Language) {
    let setup = Setup::inline(language, "large", large_answer(language)).flags(&QUICKLY_OVER).flags(&["--workers", "1"]);
    let service = setup.start();
    let body = setup.body(json!({"count": 2_000_000})).to_string();
    let post = format!("POST /output {HEAD}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut stuck = Raw::connect(&service).narrow().sent(post);
    stuck.skip(100);
    assert_eq!(service.output(&setup.body(json!({"count": 3}))).len(), 3, "the worker is free while the answer is not taken");
    eventually("the connection is cut", PATIENCE, || {
        (service.metric("dunnage_http_connections_cut_total", "stalled") == 1.0).then_some(())
    });
    eventually("its place is free", PATIENCE, || (service.metric("dunnage_http_connections", "") == 1.0).then_some(()));
}

/// The client takes something all the time, so that only its pace can be held against it.
fn an_answer_that_is_taken_too_slowly_ends_its_connection_and_others_do_not(language: Language) {
    const MEGABYTE: u64 = 1_000_000;
    let setup = Setup::inline(language, "large", large_answer(language)).flags(&["--write-timeout", "2s"]);
    let body = setup.body(json!({"count": 3_000_000})).to_string();
    let length = body.len();
    let post =
        format!("POST /output {HEAD}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    let taken = |least: &str, megabytes_a_second: u64| {
        let service = setup.start_with(&["--min-body-rate", least]);
        let mut raw = Raw::connect(&service).sent(&post);
        let taken = raw.take_slowly(megabytes_a_second * MEGABYTE / 20, Duration::from_millis(50));
        (taken, service.metric("dunnage_http_connections_cut_total", "stalled"))
    };
    let (whole, cut) = taken("1MiB", 4);
    assert!(whole > 36 * MEGABYTE && cut == 0.0, "{whole} bytes, {cut} were cut: it has waited for longer, but earned that");
    let (part, cut) = taken("16MiB", 2);
    assert!(part < whole && cut == 1.0, "{part} of {whole} bytes, {cut} were cut");
}

fn slow_clients_do_not_disturb_others(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--workers", "1"]);
    let service = setup.start();
    let body = setup.body(json!({}));
    let descriptors = service.descriptors();
    let crowd = crowd(&service);
    assert!(service.metric("dunnage_http_connections", "") >= crowd.len() as f64);
    let is_over = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        scope.spawn(|| drip_all(crowd, &is_over));
        let slowest = (0..100).map(|_| timed(|| drop(service.output(&body)))).max();
        is_over.store(true, Ordering::Relaxed);
        slowest.expect("there were some")
    });
    assert!(slowest < Duration::from_secs(2), "a client like any other waited for {slowest:?}");
    eventually("nothing of them is left", PATIENCE, || (service.descriptors() <= descriptors + 2).then_some(()));
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// Heads, bodies and answers that come, or are taken, a byte at a time.
fn crowd(service: &Service) -> Vec<(Raw, &'static str)> {
    let head = |_| (Raw::connect(service).sent("GET /jobs HTTP/1.1\r\nX: "), "x");
    let body = |_| {
        let post = format!("POST /output {HEAD}Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{");
        (Raw::connect(service).sent(post), " ")
    };
    let answer = |_| {
        let get = format!("GET /openapi.json {HEAD}\r\n");
        (Raw::connect(service).narrow().sent(get.repeat(20)), "")
    };
    (0..200).map(head).chain((0..100).map(body)).chain((0..20).map(answer)).collect()
}

fn drip_all(mut crowd: Vec<(Raw, &str)>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        // One that was cut has been slow enough.
        crowd.retain_mut(|(raw, byte)| raw.send(byte).is_ok());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_quiet_connection_is_closed_when_it_has_had_its_time() {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let script = "import time\ndef output(files, ctx):\n    time.sleep(ctx.params['seconds'])\n    return [1]\n";
    let setup = Setup::inline(Language::Python, "sleeps", script).flags(&["--keep-alive", "2s", "--head-timeout", "1h"]);
    let service = setup.start();
    let get = format!("GET /jobs {HEAD}\r\n");
    let post = |seconds: f64| {
        let body = setup.body(json!({"seconds": seconds})).to_string();
        format!("POST /output {HEAD}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    // What is sent at once, and how many requests that is.
    let asked = [
        (get.clone(), 1),
        (post(0.0), 1),
        (post(2.5), 1),
        (get.repeat(3), 3),
        (post(2.5).repeat(2), 2),
        (format!("{get}GET /jo"), 1),
    ];
    std::thread::scope(|scope| {
        for (sent, count) in &asked {
            let mut raw = Raw::connect(&service).sent(sent);
            scope.spawn(move || {
                (0..*count).for_each(|_| drop(raw.answer().expect(200)));
                let quiet = timed(|| assert!(raw.answers(PATIENCE).is_empty(), "it ends without a word"));
                assert!(quiet >= KEEP_ALIVE / 2 && quiet < PATIENCE / 2, "{quiet:?} after {sent}");
            });
        }
        let mut raw = Raw::connect(&service);
        for _ in 0..12 {
            raw = raw.sent(&get);
            raw.answer().expect(200);
            std::thread::sleep(KEEP_ALIVE / 8);
        }
    });
}

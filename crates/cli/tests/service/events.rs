//! The live view: a job's events as they happen.

use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

use crate::listener::{Event, Listener};

in_both_languages!(
    a_training_job_is_followed_while_it_runs,
    a_stream_is_taken_up_again_behind_the_last_event,
    a_listener_sees_the_job_cancelled,
    a_listener_does_not_hold_up_the_end_of_the_service,
);

const UNKNOWN_JOB: &str = "8c8b8a53-5c3c-4a2c-9d0a-4d1f0e6e7a01";
const PATIENCE: Duration = Duration::from_secs(10);

/// A script that says a line and how far it has come, and goes on when there is a file `go0`, `go1` and so on.
fn stepping(language: Language) -> Setup {
    let script = match language {
        Language::Python => {
            "import os, time\n\ndef train(files, ctx):\n    for step in range(3):\n        print('step', step, flush=True)\n\
            \x20       ctx.progress((step + 1) / 4)\n        while not os.path.exists(f'go{step}'):\n            time.sleep(0.005)\n\
            \x20   return 'whole'\n"
        }
        Language::Lua => {
            "return { train = function(_, ctx)\n  for step = 0, 2 do\n    print('step ' .. step)\n    ctx.progress((step + 1) / 4)\n\
            \x20   local go\n    repeat go = io.open('go' .. step) until go\n    go:close()\n  end\n  return 'whole'\nend }\n"
        }
    };
    Setup::inline(language, "stepping", script)
}

fn go_on(setup: &Setup, step: u32) {
    std::fs::write(setup.folder().join(format!("go{step}")), "").unwrap();
}

fn is_log(event: &Event, message: &str) -> bool {
    event.name == "log" && event.data["message"] == message
}

fn has_progressed(event: &Event, fraction: f64) -> bool {
    event.name == "progress" && event.data["fraction"] == fraction
}

fn metric(service: &Service, line: &str) -> f64 {
    let metrics = service.get("/metrics");
    let found = metrics.text().lines().find_map(|text| text.strip_prefix(line)).unwrap_or_else(|| panic!("{line} in {metrics}"));
    found.rsplit(' ').next().unwrap().parse().unwrap()
}

fn open_streams(service: &Service) -> f64 {
    metric(service, "dunnage_event_streams")
}

fn a_training_job_is_followed_while_it_runs(language: Language) {
    let setup = stepping(language);
    let service = setup.start();
    let job = service.submit("/train", &setup.body(json!({})));
    let mut listener = Listener::open(&service, &job);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(listener.header(name), Some(value));
    }
    let mut events = Vec::new();
    for (step, fraction) in [0.25, 0.5, 0.75].into_iter().enumerate() {
        let line = format!("step {step}");
        let begin = Instant::now();
        let (mut spoken, mut progressed) = (false, false);
        while !(spoken && progressed) {
            let event = listener.next().expect("the job has not ended");
            spoken |= is_log(&event, &line);
            progressed |= has_progressed(&event, fraction);
            events.push(event);
        }
        assert!(begin.elapsed() < PATIENCE, "step {step} is told as it happens");
        assert_eq!(service.status(&job)["state"], "running");
        go_on(&setup, step as u32);
    }
    events.extend(listener.rest());

    let states: Vec<_> = events.iter().filter(|event| event.name == "state").map(|event| event.data["state"].clone()).collect();
    assert!(states.ends_with(&[json!("running"), json!("done")]), "{states:?}");
    assert_eq!(events[0].name, "state");
    let last = events.last().unwrap();
    assert_eq!((&last.data, last.data["result"].clone()), (&service.status(&job), json!("whole")));
    assert_eq!(logged(&events), service.job_log(&job));
    let fractions: Vec<_> = events.iter().filter(|event| event.name == "progress").map(|event| &event.data["fraction"]).collect();
    assert_eq!(fractions, [0.25, 0.5, 0.75]);
}

fn logged(events: &[Event]) -> Vec<Value> {
    events.iter().filter(|event| event.name == "log").map(|event| event.data.clone()).collect()
}

fn a_stream_is_taken_up_again_behind_the_last_event(language: Language) {
    let setup = stepping(language);
    let service = setup.start();
    let job = service.submit("/train", &setup.body(json!({})));
    let seen = Listener::open(&service, &job).until("the first line", |event| is_log(event, "step 0"));
    go_on(&setup, 0);
    let mut again = Listener::open_behind(&service, &job, &seen.last().unwrap().id);
    let events = again.until("the second line", |event| is_log(event, "step 1"));
    assert_eq!((events[0].name.as_str(), &events[0].data["state"]), ("state", &json!("running")));
    assert_eq!(logged(&events).len(), 1, "the first line does not come again: {events:?}");
    go_on(&setup, 1);
    go_on(&setup, 2);
    let rest = again.rest();
    let whole = [logged(&seen), logged(&events), logged(&rest)].concat();
    assert_eq!(whole, service.job_log(&job));

    for event in Listener::open(&service, &job).rest().iter().filter(|event| event.name == "log") {
        let again = Listener::open_behind(&service, &job, &event.id).rest();
        let position = event.data["sequence"].as_u64().unwrap() as usize;
        assert_eq!(logged(&again), whole[position..]);
        let by_query = Listener::connect(&service, &format!("/jobs/{job}/events?after={position}"), "").rest();
        assert_eq!(logged(&by_query), whole[position..]);
    }
    let end = Request::new("GET", &format!("/jobs/{job}/events")).header("Last-Event-ID", &rest.last().unwrap().id);
    let answer = service.send(&end);
    assert_eq!((answer.status, answer.text()), (204, ""), "{answer}");
}

fn a_listener_sees_the_job_cancelled(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--cancel-grace", "20s"]);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "wait"})));
    let mut listener = Listener::open(&service, &job);
    listener.until("it runs", |event| event.data["message"] == "waiting");
    service.send(&Request::new("DELETE", &format!("/jobs/{job}"))).expect(202);
    let events = listener.rest();
    let last = events.last().unwrap();
    assert_eq!((last.name.as_str(), &last.data), ("state", &service.status(&job)));
    assert_eq!((&last.data["state"], &last.data["status"]), (&json!("cancelled"), &json!("error")));
}

fn a_listener_does_not_hold_up_the_end_of_the_service(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--grace", "300ms"]);
    let service = setup.start();
    let job = service.submit("/train", &setup.body(json!({"case": "stubborn"})));
    let mut listener = Listener::open(&service, &job);
    listener.until("it runs", |event| event.data["message"] == "waiting");
    let begin = Instant::now();
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(8), "the end takes {:?}", begin.elapsed());
    let rest = listener.rest();
    assert!(rest.iter().all(|event| event.data["state"] != "done"), "{rest:?}");
}

#[test]
fn a_listener_that_comes_late_hears_everything_of_a_job_that_has_ended() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let status = service.done("/input", &setup.body(json!({"case": "speak"})));
    let job = status["jobId"].as_str().unwrap();
    let events = Listener::open(&service, job).rest();
    assert_eq!(logged(&events), service.job_log(job));
    let states: Vec<_> = events.iter().filter(|event| event.name == "state").collect();
    assert_eq!((states.len(), &states[0].data, states[0]), (1, &status, events.last().unwrap()));
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let script = "def input(files, ctx):\n    for number in range(9000):\n        print(str(number).ljust(1000, '.'))\n";
    let setup = Setup::inline(Language::Python, "chatter", script);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    let slow = Listener::open(&service, &job);
    let quick = logged(&Listener::open(&service, &job).rest());
    assert_eq!(quick.len(), 9000);
    assert!(quick.iter().enumerate().all(|(index, line)| line["sequence"] == index + 1));
    assert_eq!(open_streams(&service), 1.0, "nine megabytes fit into no buffer between us");
    assert_eq!(logged(&slow.rest()), quick);
}

#[test]
fn a_client_that_goes_away_frees_its_stream_at_once() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--max-streams", "2"]);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    let listeners = [Listener::open(&service, &job), Listener::open(&service, &job)];
    assert_eq!(open_streams(&service), 2.0);
    let refused = service.get(&format!("/jobs/{job}/events"));
    assert!(refused.expect_problem(503, "too_many_streams").contains("--max-streams"));
    let head = service.send(&Request::new("HEAD", &format!("/jobs/{job}/events")));
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "a head takes no place");
    drop(listeners);
    // Long before the next heartbeat.
    eventually("the places are free", Duration::from_secs(5), || (open_streams(&service) == 0.0).then_some(()));
    Listener::open(&service, &job).next().expect("the state");
}

#[test]
fn the_length_of_a_stream_is_no_latency() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    let mut listener = Listener::open(&service, &job);
    listener.until("it runs", |event| event.data["message"] == "waiting");
    let count = "dunnage_http_request_duration_seconds_count{route=\"/jobs/{id}/events\"";
    assert_eq!(metric(&service, count), 1.0, "the request has been observed while its stream goes on");
    drop(listener);
    eventually("the stream is closed", Duration::from_secs(5), || (open_streams(&service) == 0.0).then_some(()));
    assert_eq!(metric(&service, count), 1.0, "and is not observed again");
}

#[test]
fn requests_for_events_that_make_no_sense_are_refused() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let status = service.done("/input", &setup.body(json!({})));
    let target = format!("/jobs/{}/events", status["jobId"].as_str().unwrap());
    service.get(&format!("/jobs/{UNKNOWN_JOB}/events")).expect_problem(404, "job_unknown");
    service.get("/jobs/7/events").expect_problem(400, "job_id_malformed");
    for query in ["after=x", "after=-1", "after=1000", "before=1"] {
        service.get(&format!("{target}?{query}")).expect_problem(400, "query_invalid");
    }
    for id in ["x", "0", "0:lost", "1000:done", "+0:done"] {
        let request = Request::new("GET", &target).header("Last-Event-ID", id);
        service.send(&request).expect_problem(400, "query_invalid");
    }
    let refused = service.send(&Request::new("POST", &target));
    refused.expect_problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
}

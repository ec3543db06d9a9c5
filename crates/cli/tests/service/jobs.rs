//! Jobs: their course, their log, their end, their order.

use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, job_id};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

in_both_languages!(
    what_a_job_says_is_kept,
    a_job_may_ask_to_be_tried_again,
    a_cancelled_job_may_stop_by_itself,
    a_cancelled_job_that_does_not_stop_is_ended,
    jobs_of_the_same_key_run_one_at_a_time_in_order,
);

fn cancel(service: &Service, job: &str) -> dunnage_testing::http::Response {
    service.send(&Request::new("DELETE", &format!("/jobs/{job}")))
}

fn what_a_job_says_is_kept(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let status = service.done("/input", &setup.body(json!({"case": "speak"})));
    assert_eq!(status["progress"], json!({"fraction": 0.25, "message": "a quarter", "metrics": {"loss": 0.5}}));
    for time in ["createdAt", "startedAt", "finishedAt"] {
        assert!(status[time].as_str().is_some_and(|text| text.starts_with("20") && text.ends_with('Z')), "{status}");
    }
    let job = status["jobId"].as_str().unwrap();
    let log = service.job_log(job);
    let said = |source: &str, level: &str, text: &str| {
        log.iter()
            .any(|line| line["source"] == source && line["level"] == level && line["message"].as_str().unwrap().contains(text))
    };
    assert!(
        said("stdout", "info", "printed") && said("log", "warning", "logged 7") && said("stderr", "warning", "native"),
        "{log:?}"
    );
    let sequences: Vec<_> = log.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let first = service.get(&format!("/jobs/{job}/logs?limit=1")).expect(200);
    let rest = service.get(&format!("/jobs/{job}/logs?after={}", first["next"])).expect(200);
    assert_eq!([first["lines"].as_array().unwrap().as_slice(), rest["lines"].as_array().unwrap()].concat(), log);
    service.get(&format!("/jobs/{job}/logs?limit=0")).expect_problem(400, "query_invalid");
}

fn a_job_may_ask_to_be_tried_again(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let status = service.done("/train", &setup.body(json!({"case": "retry"})));
    assert_eq!((&status["attempt"], &status["maxAttempts"], &status["result"]), (&json!(2), &json!(3), &json!("at last")));
    assert_eq!(status.get("error"), None, "{status}");
}

fn a_cancelled_job_may_stop_by_itself(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--cancel-grace", "20s"]);
    let service = setup.start();
    let job = service.submit("/train", &setup.body(json!({"case": "wait"})));
    service.wait_for(&job, "it waits", |status| status["progress"]["message"] == "waiting");
    let workers = service.workers();
    let cancelled = cancel(&service, &job);
    assert_eq!(
        (cancelled.expect(202)["cancelRequested"].clone(), cancelled.json()["status"].clone()),
        (json!(true), json!("running"))
    );
    let status = service.ended(&job);
    assert_eq!((&status["status"], &status["state"]), (&json!("error"), &json!("cancelled")), "{status}");
    assert_eq!(service.workers(), workers, "its worker goes on");
}

fn a_cancelled_job_that_does_not_stop_is_ended(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--cancel-grace", "300ms"]);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    service.wait_for(&job, "it waits", |status| status["progress"]["message"] == "waiting");
    let begin = Instant::now();
    cancel(&service, &job).expect(202);
    let status = service.ended(&job);
    assert_eq!((&status["status"], &status["state"]), (&json!("error"), &json!("cancelled")), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(5), "grace, SIGTERM and SIGKILL take {:?}", begin.elapsed());
    assert_eq!(service.done("/input", &setup.body(json!({})))["attempt"], 1);
}

fn jobs_of_the_same_key_run_one_at_a_time_in_order(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--job-workers", "3"]);
    let service = setup.start();
    let body = |number: u32| {
        let mut body = setup.body(json!({"case": "in_turn", "number": number}));
        body["Key"] = json!("user 7");
        body
    };
    let jobs: Vec<_> = (0..12).map(|number| service.submit("/input", &body(number))).collect();
    for (index, job) in jobs.iter().enumerate() {
        let status = service.ended(job);
        assert_eq!(status["state"], "done", "{status}");
        assert_eq!(status["result"], json!((0..=index).collect::<Vec<_>>()));
        assert_eq!(status["key"], "user 7");
    }
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_an_ended_one_not_at_all() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--cancel-grace", "100ms"]);
    let service = setup.start();
    let running = service.submit("/input", &setup.body(json!({"case": "wait"})));
    service.wait_for(&running, "it waits", |status| status["progress"]["message"] == "waiting");
    let upload = Request::new("POST", "/input").form(&[("a", "x")], &[]);
    let waiting = job_id(&service.send(&upload));
    let uploads = || std::fs::read_dir(setup.data("uploads")).unwrap().count();
    assert_eq!(uploads(), 1);
    let cancelled = cancel(&service, &waiting).expect(200);
    assert_eq!((&cancelled["status"], &cancelled["state"]), (&json!("error"), &json!("cancelled")), "{cancelled}");
    assert_eq!(uploads(), 0, "its upload goes with it");
    assert_eq!(cancel(&service, &waiting).expect(200)["state"], "cancelled", "once more is no error");
    cancel(&service, &running).expect(202);
    assert_eq!(service.ended(&running)["state"], "cancelled");
    let done = service.done("/input", &setup.body(json!({})));
    cancel(&service, done["jobId"].as_str().unwrap()).expect_problem(409, "job_finished");
}

#[test]
fn a_repeated_request_with_the_same_key_makes_no_second_job() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let send = |call: &str, params: Value| {
        service.send(&Request::new("POST", call).json(&setup.body(params)).header("Idempotency-Key", "once"))
    };
    let first = job_id(&send("/input", json!({"a": 1})));
    assert_eq!(job_id(&send("/input", json!({"a": 1}))), first);
    service.ended(&first);
    assert_eq!(job_id(&send("/input", json!({"a": 1}))), first, "also when it has ended");
    send("/input", json!({"a": 2})).expect_problem(422, "idempotency_mismatch");
    send("/train", json!({"a": 1})).expect_problem(422, "idempotency_mismatch");
    assert_eq!(service.get("/jobs").expect(200)["jobs"].as_array().unwrap().len(), 1);

    let upload = |contents: &str| {
        service.send(&Request::new("POST", "/input").form(&[("a", contents)], &[]).header("Idempotency-Key", "file"))
    };
    let with_file = job_id(&upload("x"));
    assert_eq!(job_id(&upload("x")), with_file);
    upload("y").expect_problem(422, "idempotency_mismatch");
}

#[test]
fn ended_jobs_are_removed_when_their_retention_ends() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--retention", "1s"]);
    let first = setup.start();
    let job = first.done("/input", &setup.body(json!({})))["jobId"].as_str().unwrap().to_owned();
    drop(first);
    // A service looks for such jobs when it starts, and once a minute from then on.
    let gone = || Some(setup.start()).filter(|service| service.get(&format!("/status?jobId={job}")).status == 404);
    let second = eventually("a service has removed the job", Duration::from_secs(20), gone);
    second.get(&format!("/jobs/{job}/logs")).expect_problem(404, "job_unknown");
}

#[test]
fn a_log_has_its_limit() {
    let script = "def input(files, ctx):\n    for number in range(5000):\n        print(number)\n    return 'spoken'\n";
    let setup = Setup::inline(Language::Python, "chatter", script).flags(&["--max-log-lines", "100"]);
    let service = setup.start();
    let status = service.done("/input", &setup.body(json!({})));
    assert_eq!(status["result"], "spoken");
    let log = service.job_log(status["jobId"].as_str().unwrap());
    assert_eq!(log.len(), 101);
    assert_eq!((&log[99]["message"], &log[100]["source"]), (&json!("99"), &json!("server")));
}

#[test]
fn idle_job_workers_are_ended() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--job-idle", "200ms"]);
    let service = setup.start();
    let serving = service.workers();
    service.done("/input", &setup.body(json!({})));
    eventually("only the serving worker is left", Duration::from_secs(5), || (service.workers() == serving).then_some(()));
    service.done("/input", &setup.body(json!({})));
}

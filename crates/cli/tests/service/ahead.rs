//! Jobs that are claimed ahead of the one that runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::postgres::Cluster;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

const SCRIPT: &str = r#"
import os
import time


def hold(ctx):
    ctx.progress(message="held")
    while not os.path.exists(ctx.params["gate"]):
        time.sleep(0.002)


JOBS = {
    "pass": lambda ctx: None,
    "hold": hold,
    "die": lambda ctx: os.kill(os.getpid(), 9),
    "count": lambda ctx: ctx.state.increment(ctx.params["counter"], 1),
}


def input(files, ctx):
    return JOBS[ctx.params["case"]](ctx)
"#;
/// How many jobs wait behind the one that holds the worker up.
const BEHIND: usize = 3;
/// Longer than jobs that were claimed ahead wait for their turn, and much shorter than any other patience.
const SOON: Duration = Duration::from_secs(5);

fn setup() -> Setup {
    Setup::inline(Language::Python, "ahead", SCRIPT)
}

/// A job that holds the worker up until its gate is opened, and others that the same replica has claimed.
struct HeldUp {
    gate: PathBuf,
    held: String,
    behind: Vec<String>,
}

impl HeldUp {
    /// Tries until jobs are seen to be claimed ahead: it takes a worker whose jobs have been fast lately.
    fn new(setup: &Setup, service: &Service) -> Self {
        for round in 0..20 {
            for _ in 0..12 {
                service.done("/input", &setup.body(json!({"case": "pass"})));
            }
            let this = Self::submit(setup, service, setup.folder().join(format!("gate {round}")));
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(500) {
                if this.behind.iter().all(|job| service.status(job)["state"] == "running") {
                    return this;
                }
            }
            this.open();
            this.behind.iter().for_each(|job| _ = service.ended(job));
        }
        panic!("no job is ever claimed ahead");
    }

    fn submit(setup: &Setup, service: &Service, gate: PathBuf) -> Self {
        let held = service.submit("/input", &setup.body(json!({"case": "hold", "gate": gate})));
        service.wait_for(&held, "it is held up", |status| status["progress"]["message"] == "held");
        let behind = (0..BEHIND).map(|_| service.submit("/input", &setup.body(json!({"case": "pass"}))));
        Self { held, behind: behind.collect(), gate }
    }

    fn open(&self) {
        std::fs::write(&self.gate, "").unwrap();
    }
}

#[track_caller]
fn require_done(service: &Service, job: &str, attempt: u32) {
    let ended = service.ended(job);
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("done"), &json!(attempt)), "{ended}");
}

#[test]
fn what_was_claimed_ahead_of_a_long_job_is_handed_back_uncharged_and_run_by_another_replica() {
    let database = Cluster::shared().database();
    let setup = setup().environment("DUNNAGE_DATABASE_URL", &database);
    let first = setup.start();
    let HeldUp { gate, held, behind } = HeldUp::new(&setup, &first);
    for job in &behind {
        let status = first.wait_for(job, "it waits again", |status| status["state"] == "queued");
        assert_eq!((&status["attempt"], status.get("startedAt")), (&json!(0), None), "{status}");
    }
    let leases = Cluster::shared().sql(&database, "SELECT min(lease) FROM job WHERE state = 'queued'");
    assert_eq!(leases.trim(), "1", "they had been claimed");
    let second = setup.start();
    behind.iter().for_each(|job| require_done(&second, job, 1));
    assert_eq!(first.status(&held)["state"], "running");
    std::fs::write(gate, "").unwrap();
    require_done(&first, &held, 1);
}

#[test]
fn a_worker_that_dies_takes_only_the_attempt_that_runs_with_it() {
    let setup = setup().flags(&["--max-attempts", "2"]);
    let service = setup.start();
    let held_up = HeldUp::new(&setup, &service);
    let deadly = service.submit("/input", &setup.body(json!({"case": "die"})));
    let behind = service.submit("/input", &setup.body(json!({"case": "pass"})));
    held_up.open();
    require_done(&service, &held_up.held, 1);
    held_up.behind.iter().for_each(|job| require_done(&service, job, 1));
    require_done(&service, &behind, 1);
    let ended = service.ended(&deadly);
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("error"), &json!(2)), "{ended}");
}

/// Who runs what was claimed by a server that was killed cannot tell how much of it had begun; so all of it is charged, but never twice.
#[test]
fn a_killed_server_costs_what_it_had_claimed_one_attempt_at_most() {
    let setup = setup().flags(&["--max-attempts", "3"]);
    let service = setup.start();
    let HeldUp { gate, held, behind } = HeldUp::new(&setup, &service);
    service.kill(SOON);
    let again = setup.start();
    again.wait_for(&held, "it is held up again", |status| status["attempt"] == 2 && status["progress"]["message"] == "held");
    again.kill(SOON);
    std::fs::write(gate, "").unwrap();
    let last = setup.start();
    require_done(&last, &held, 3);
    for job in &behind {
        let ended = last.ended(job);
        assert_eq!(ended["state"], "done", "{ended}");
        assert!(ended["attempt"].as_u64().unwrap() <= 2, "{ended}");
    }
}

#[test]
fn a_job_claimed_ahead_is_cancelled_at_once() {
    let setup = setup().flags(&["--cancel-grace", "60s"]);
    let service = setup.start();
    let HeldUp { gate, held, behind } = HeldUp::new(&setup, &service);
    let begin = Instant::now();
    for job in &behind {
        let response = service.send(&Request::new("DELETE", &format!("/jobs/{job}")));
        assert!([200, 202].contains(&response.status), "{response:?}");
        let ended = service.ended(job);
        assert_eq!((&ended["state"], ended.get("result")), (&json!("cancelled"), None), "{ended}");
    }
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    assert_eq!(service.status(&held)["state"], "running");
    std::fs::write(gate, "").unwrap();
    require_done(&service, &held, 1);
}

#[test]
fn a_server_that_is_told_to_end_hands_back_uncharged_what_it_has_claimed_ahead() {
    let setup = setup().flags(&["--grace", "200ms"]);
    let service = setup.start();
    let HeldUp { gate, held, behind } = HeldUp::new(&setup, &service);
    let (status, _) = service.terminate();
    assert!(status.success(), "{status}");
    std::fs::write(gate, "").unwrap();
    let next = setup.start();
    [&held].into_iter().chain(&behind).for_each(|job| require_done(&next, job, 1));
}

#[test]
fn jobs_of_a_key_keep_their_order_whatever_is_claimed_ahead() {
    let setup = setup().flags(&["--job-workers", "2"]);
    let service = setup.start();
    let keyed = |key: usize| {
        let mut body = setup.body(json!({"case": "count", "counter": format!("of {key}")}));
        body["Key"] = json!(format!("key {key}"));
        body
    };
    let jobs: Vec<_> = (0..90).map(|number| service.submit("/input", &keyed(number % 3))).collect();
    for (number, job) in jobs.iter().enumerate() {
        let ended: Value = service.ended(job);
        assert_eq!((&ended["state"], &ended["result"]), (&json!("done"), &json!(number / 3 + 1)), "{ended}");
    }
}

#[test]
fn training_is_not_passed_by_what_came_after_it() {
    let script = r#"
def train(files, ctx):
    (ctx.new_artifact() / "value").write_text(str(ctx.params["value"]))


def input(files, ctx):
    return (ctx.artifact / "value").read_text() if ctx.artifact else None
"#;
    let setup = Setup::inline(Language::Python, "trained", script);
    let service = setup.start();
    let body = |value: u32| setup.body(json!({"value": value}));
    for _ in 0..12 {
        service.done("/input", &body(0));
    }
    let mut jobs = Vec::new();
    for value in 1..=3 {
        service.submit("/train", &body(value));
        jobs.extend((0..5).map(|_| (value, service.submit("/input", &body(0)))));
    }
    for (value, job) in jobs {
        assert_eq!(service.ended(&job)["result"], json!(value.to_string()), "the version that was trained before it");
    }
}

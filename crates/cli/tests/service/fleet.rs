//! Several replicas of one service, on PostgreSQL and a data folder that they share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::service::{Service, vector};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

use crate::listener::{Event, Listener};

in_both_languages!(
    a_version_trained_on_one_replica_serves_on_all,
    a_rollback_reaches_every_replica_and_no_request_fails,
    the_jobs_of_a_killed_replica_are_taken_over,
    a_frozen_replica_changes_nothing_when_it_wakes_up,
    what_a_terminated_replica_was_at_is_answered_or_taken_up_by_another_within_a_second,
);

/// How long another replica may lag behind, on a machine that is busy with other tests.
const LAG: Duration = Duration::from_secs(15);
/// The least there is, so that a lost replica is soon noticed.
const SHORT_LEASE: [&str; 2] = ["--lease", "1s"];

/// A setup whose services are replicas that share a database of their own.
fn fleet(setup: Setup) -> Setup {
    setup.environment("DUNNAGE_DATABASE_URL", &Cluster::shared().database())
}

/// The value that all of an answer consists of, and the version that it names.
#[track_caller]
fn served(setup: &Setup, replica: &Service) -> (f64, String) {
    let answered = replica.post("/output", &setup.body(json!({})));
    let vector = vector(&answered);
    assert!(vector.len() == 500 && vector.iter().all(|value| *value == vector[0]), "{vector:?}");
    (vector[0], answered.header("model-version").unwrap().to_owned())
}

#[track_caller]
fn wait_until_served(setup: &Setup, replica: &Service, expected: f64) {
    eventually(&format!("{expected} is served"), LAG, || (served(setup, replica).0 == expected).then_some(()));
}

fn train(setup: &Setup, replica: &Service, value: Value) {
    replica.done("/train", &setup.body(json!({"value": value})));
}

fn a_version_trained_on_one_replica_serves_on_all(language: Language) {
    let setup = fleet(Setup::new(language, "versions"));
    let (first, second) = (setup.start(), setup.start());
    train(&setup, &first, json!(1));
    wait_until_served(&setup, &second, 1.0);
    let job = second.submit("/train", &setup.body(json!({"value": 2})));
    assert_eq!(first.ended(&job)["status"], "done", "any replica tells of any job");
    for replica in [&first, &second] {
        wait_until_served(&setup, replica, 2.0);
        let in_step = |models: &Value| {
            let replicas = models["replicas"].as_array().unwrap();
            replicas.len() == 2 && replicas.iter().all(|it| it["serving"] == 2 && it["ready"] == true)
        };
        let models = eventually("all serve version 2", LAG, || Some(replica.get("/models").expect(200)).filter(in_step));
        let this = models["replicas"].as_array().unwrap().iter().filter(|it| it["isThis"] == true).count();
        assert_eq!((this, &models["active"]), (1, &json!(2)), "{models}");
    }
    first.terminate();
    let left = second.get("/models").expect(200);
    assert_eq!(left["replicas"].as_array().unwrap().len(), 1, "it has taken leave: {left}");
    let third = setup.start();
    assert_eq!(served(&setup, &third), (2.0, "2".to_owned()));
}

fn a_rollback_reaches_every_replica_and_no_request_fails(language: Language) {
    let setup = fleet(Setup::new(language, "versions"));
    let (first, second) = (setup.start(), setup.start());
    train(&setup, &first, json!(1));
    train(&setup, &first, json!(2));
    // Either may have run it, and the other follows.
    for replica in [&first, &second] {
        wait_until_served(&setup, replica, 2.0);
    }

    let over = AtomicBool::new(false);
    // About 200 requests a second in all.
    let ask = |replica: &Service| {
        let mut seen = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let begin = Instant::now();
            let (value, version) = served(&setup, replica);
            assert_eq!(value.to_string(), version, "an answer belongs to the version it names");
            seen.push(value);
            std::thread::sleep(Duration::from_millis(20).saturating_sub(begin.elapsed()));
        }
        seen
    };
    let all_seen: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = [&first, &second, &first, &second].map(|replica| scope.spawn(move || ask(replica))).into();
        first.send(&Request::new("POST", "/models/1/activate")).expect(200);
        assert_eq!(served(&setup, &first).0, 1.0);
        wait_until_served(&setup, &second, 1.0);
        over.store(true, Ordering::SeqCst);
        threads.into_iter().map(|thread| thread.join().expect("no request failed")).collect()
    });
    for seen in all_seen {
        assert!(seen.is_sorted_by(|before, after| before >= after), "new, then old, and never back: {seen:?}");
    }
}

fn the_jobs_of_a_killed_replica_are_taken_over(language: Language) {
    let setup = fleet(Setup::new(language, "calls")).flags(&SHORT_LEASE).flags(&["--job-workers", "2", "--max-attempts", "5"]);
    let (first, second) = (setup.start(), setup.start());
    let body = setup.body(json!({"case": "count"}));
    let jobs: Vec<_> = (0..100).map(|number| [&first, &second][number % 2].submit("/input", &body)).collect();
    first.kill(Duration::from_secs(1));
    for job in jobs {
        assert_eq!(second.ended(&job)["status"], "done");
    }
}

/// The script writes which run it was at the end of a wait in which the replica is frozen.
fn a_frozen_replica_changes_nothing_when_it_wakes_up(language: Language) {
    let script = match language {
        Language::Python => {
            "import time\ndef input(files, ctx):\n    run = ctx.state.increment('runs', 1)\n    ctx.progress(0.5)\n    time.sleep(2)\n    ctx.state['by'] = run\n    return run\n\ndef output(files, ctx):\n    return [ctx.state.get('by', -1)]\n"
        }
        Language::Lua => {
            "local model = {}\nfunction model.input(files, ctx)\n  local run = ctx.state:increment('runs', 1)\n  ctx.progress(0.5)\n  local stop = os.time() + 3\n  while os.time() < stop do end\n  ctx.state.by = run\n  return run\nend\nfunction model.output(files, ctx) return {ctx.state.by or -1} end\nreturn model\n"
        }
    };
    let setup = fleet(Setup::inline(language, "slow", script)).flags(&SHORT_LEASE);
    let first = setup.start();
    let job = first.submit("/input", &setup.body(json!({})));
    first.wait_for(&job, "it runs", |status| status["progress"]["fraction"] == 0.5);
    let second = setup.start();
    first.pause();
    let ended = second.ended(&job);
    assert_eq!((&ended["state"], &ended["attempt"], &ended["result"]), (&json!("done"), &json!(2), &json!(2)), "{ended}");
    first.resume();
    eventually("the frozen attempt is given up", LAG, || {
        first.log().iter().any(|line| line.contains("superseded") || line.contains("could not be renewed in time")).then_some(())
    });
    let after = second.status(&job);
    assert_eq!(after, ended, "nothing about it has changed");
    assert_eq!(first.output(&setup.body(json!({}))), [2.0], "and the replica that was frozen serves on");
}

#[test]
fn a_job_is_cancelled_through_another_replica() {
    let setup = fleet(Setup::new(Language::Python, "calls")).flags(&["--cancel-grace", "200ms"]);
    let first = setup.start();
    let job = first.submit("/input", &setup.body(json!({"case": "stubborn"})));
    first.wait_for(&job, "it runs", |status| status["progress"]["message"] == "waiting");
    let second = setup.start_with(&["--job-workers", "1"]);
    let begin = Instant::now();
    second.send(&Request::new("DELETE", &format!("/jobs/{job}"))).expect(202);
    assert_eq!(second.ended(&job)["state"], "cancelled");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// Requests are answered by the replica that has them; jobs that are longer than its grace go to the other one.
fn what_a_terminated_replica_was_at_is_answered_or_taken_up_by_another_within_a_second(language: Language) {
    let flags = ["--workers", "4", "--job-workers", "4", "--grace", "300ms", "--max-queue-wait", "0s"];
    let setup = fleet(Setup::new(language, "behaviours")).flags(&flags);
    let first = setup.start();
    let jobs: Vec<_> = (0..4).map(|_| first.submit("/input", &setup.body(json!({"case": "long"})))).collect();
    for job in &jobs {
        first.wait_for(job, "it runs", |status| status["state"] == "running");
    }
    let second = setup.start();
    let before: Vec<_> = jobs.iter().map(|job| second.status(job)["startedAt"].clone()).collect();
    let numbered = |number: u32| Request::new("POST", "/output").json(&setup.body(json!({"number": number, "seconds": 0.6})));
    let begun: Vec<_> = (0..20).map(|number| numbered(number).begin(first.address()).unwrap()).collect();
    let is_begun = || (first.metric("dunnage_outputs_queued", "") == 16.0).then_some(());
    eventually("all are in flight", LAG, is_begun);
    let waits: Vec<Duration> = std::thread::scope(|scope| {
        let second = &second;
        let watched = jobs.iter().zip(&before);
        let watching: Vec<_> = watched.map(|(job, begun)| scope.spawn(move || time_without_a_holder(second, job, begun))).collect();
        assert_eq!(first.terminate().0.code(), Some(0));
        watching.into_iter().map(|thread| thread.join().expect("it is taken up")).collect()
    });
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(1)), "{waits:?}");
    for (number, stream) in (0_u32..).zip(begun) {
        assert_eq!(vector(&numbered(number).answer_over(stream).unwrap()), [f64::from(number)]);
    }
    for job in &jobs {
        assert_eq!(second.status(job)["attempt"], 1, "the interrupted attempt is not charged");
        second.send(&Request::new("DELETE", &format!("/jobs/{job}")));
    }
}

/// How long it is at most from the end of the attempt that had `begun` to the begin of the next one.
fn time_without_a_holder(replica: &Service, job: &str, begun: &Value) -> Duration {
    let mut held = Instant::now();
    loop {
        let asked = Instant::now();
        let status = replica.status(job);
        match status["state"] == "running" {
            true if status["startedAt"] == *begun => held = asked,
            true => return held.elapsed(),
            false => assert!(held.elapsed() < LAG, "nobody takes it up: {status}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_version_that_is_not_to_be_had_on_a_replica_leaves_the_one_before_at_work_there() {
    let shared = fleet(Setup::new(Language::Python, "versions"));
    let (first, second) = (shared.start(), shared.start());
    train(&shared, &first, json!(1));
    wait_until_served(&shared, &second, 1.0);
    let artifacts = shared.data("artifacts");
    let before: Vec<_> = std::fs::read_dir(&artifacts).unwrap().map(|entry| entry.unwrap().path()).collect();
    second.pause();
    train(&shared, &first, json!(2));
    let new =
        std::fs::read_dir(&artifacts).unwrap().map(|entry| entry.unwrap().path()).find(|path| !before.contains(path)).unwrap();
    let aside = shared.folder().join("aside");
    std::fs::rename(&new, &aside).unwrap();
    second.resume();
    let lagging = |models: &Value| models["replicas"].as_array().unwrap().iter().any(|it| it["error"].is_string());
    let models = eventually("it says so", LAG, || Some(second.get("/models").expect(200)).filter(lagging));
    let of_second = models["replicas"].as_array().unwrap().iter().find(|it| it["isThis"] == true).unwrap();
    assert_eq!((&of_second["serving"], &of_second["ready"]), (&json!(1), &json!(true)), "{models}");
    assert!(
        of_second["error"].as_str().unwrap().contains("the artifact of version 2 is not in this replica's data folder"),
        "{models}"
    );
    assert_eq!(served(&shared, &second), (1.0, "1".to_owned()));
    std::fs::rename(&aside, &new).unwrap();
    wait_until_served(&shared, &second, 2.0);
}

#[test]
fn the_state_of_another_replica_is_missed_for_the_time_allowed_at_most() {
    let script = "def output(files, ctx):\n    if 'set' in ctx.params:\n        ctx.state['k'] = ctx.params['set']\n    return [ctx.state.get('k', -1)]\n";
    let setup = fleet(Setup::inline(Language::Python, "shared", script)).flags(&["--state-max-stale", "500ms"]);
    let (first, second) = (setup.start(), setup.start());
    for value in 0..5 {
        assert_eq!(first.output(&setup.body(json!({"set": value}))), [f64::from(value)], "its own write, at once");
        let written = Instant::now();
        let missed = eventually("the other replica sees it", LAG, || {
            let asked = written.elapsed();
            (second.output(&setup.body(json!({}))) == [f64::from(value)]).then_some(asked)
        });
        assert!(missed < Duration::from_secs(1), "{missed:?}");
    }
    let metrics = second.get("/metrics");
    assert!(metrics.text().contains("dunnage_state_cache_hits_total"), "{}", metrics.text());
}

#[test]
fn an_idempotency_key_makes_one_job_over_all_replicas() {
    let setup = fleet(Setup::new(Language::Lua, "calls"));
    let replicas = [setup.start(), setup.start()];
    let request = Request::new("POST", "/input").header("Idempotency-Key", "one").json(&setup.body(json!({"case": "count"})));
    let ids: Vec<String> = std::thread::scope(|scope| {
        let sending = (0..20).map(|number| {
            let (replica, request) = (&replicas[number % 2], &request);
            scope.spawn(move || replica.send(request).expect(202)["jobId"].as_str().unwrap().to_owned())
        });
        sending.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let other = Request::new("POST", "/input").header("Idempotency-Key", "one").json(&setup.body(json!({"case": "other"})));
    replicas[1].send(&other).expect_problem(422, "idempotency_mismatch");
}

#[test]
fn a_database_that_is_away_for_a_moment_costs_no_job() {
    let cluster = Cluster::start();
    let script = "import time\ndef input(files, ctx):\n    ctx.progress(0.5)\n    time.sleep(2)\n    return 'whole'\n\ndef output(files, ctx):\n    return [1]\n";
    let setup = Setup::inline(Language::Python, "steady", script).environment("DUNNAGE_DATABASE_URL", &cluster.database());
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    service.wait_for(&job, "it runs", |status| status["progress"]["fraction"] == 0.5);
    cluster.stop();
    service.post("/input", &setup.body(json!({}))).expect(503);
    assert_eq!(service.output(&setup.body(json!({}))), [1.0], "answers need no database");
    std::thread::sleep(Duration::from_secs(3));
    cluster.start_again();
    let ended = eventually("the job is done", LAG, || {
        let status = service.get(&format!("/status?jobId={job}"));
        (status.status == 200).then(|| status.json()).filter(|status| status["state"] == "done")
    });
    assert_eq!(
        (&ended["attempt"], &ended["result"]),
        (&json!(1), &json!("whole")),
        "the end was recorded when the database was back"
    );
    service.done("/input", &setup.body(json!({})));
}

#[test]
fn a_database_that_cannot_be_used_is_told_without_the_password() {
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_DATABASE_URL", "mysql://root:hunter2@db/models");
    let (status, said) = setup.refused();
    assert!(!status.success() && said.contains("`--database-url` must begin with `postgres://`"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let url = Cluster::shared().database().replace("postgres@", "nobody:hunter2@").replace("test_", "nowhere_");
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_DATABASE_URL", &url);
    let (status, said) = setup.refused();
    assert!(!status.success() && said.contains("nowhere_") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_job_is_followed_live_through_another_replica_and_taken_up_again_through_a_third() {
    let script = "import os, time\n\ndef input(files, ctx):\n    for step in range(2):\n        print('step', step, flush=True)\n        while not os.path.exists(f'go{step}'):\n            time.sleep(0.005)\n    return 'whole'\n";
    let setup = fleet(Setup::inline(Language::Python, "stepping", script));
    let runs = setup.start();
    let job = runs.submit("/input", &setup.body(json!({})));
    runs.wait_for(&job, "it runs", |status| status["state"] == "running");
    let (second, third) = (setup.start_with(&["--grace", "0s"]), setup.start());
    let says = |message: &'static str| move |event: &Event| event.name == "log" && event.data["message"] == message;
    let seen = Listener::open(&second, &job).until("the first line", says("step 0"));
    let last = seen.last().map(|event| event.id.clone()).expect("there is a line");
    std::fs::write(setup.folder().join("go0"), "").unwrap();
    std::fs::write(setup.folder().join("go1"), "").unwrap();
    let rest = Listener::open_behind(&third, &job, &last).rest();
    let lines: Vec<_> = rest.iter().filter(|event| event.name == "log").map(|event| event.data["message"].clone()).collect();
    assert_eq!(lines, ["step 1"], "each line once: {rest:?}");
    assert_eq!(rest.last().map(|event| event.data["state"].clone()), Some(json!("done")));
}

//! Scripts that end their worker, or never end.

use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, signal};
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    a_worker_that_dies_costs_one_request_only,
    a_request_that_hangs_in_native_code_ends_at_its_deadline,
    a_job_whose_worker_always_dies_ends_after_its_attempts,
    a_job_that_hangs_ends_at_its_deadline,
    what_a_script_has_started_ends_with_its_worker,
);

/// The next request is answered, though perhaps not before there is another worker.
#[track_caller]
fn answers_again(service: &Service, setup: &Setup) {
    assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
}

fn a_worker_that_dies_costs_one_request_only(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let server = service.pid();
    for (case, told) in [("leave", "code 3"), ("abort", "signal 6"), ("segfault", "signal 11")] {
        let workers = service.workers();
        let refused = service.post("/output", &setup.body(json!({"case": case})));
        let detail = refused.expect_problem(502, "worker_crashed");
        assert!(detail.contains(told), "{case}: {detail}");
        answers_again(&service, &setup);
        assert_ne!(service.workers(), workers, "there is another worker");
    }
    assert_eq!(service.get("/healthz/live").status, 200);
    assert_eq!(service.pid(), server);
}

fn a_request_that_hangs_in_native_code_ends_at_its_deadline(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--timeout", "3s"]);
    let service = setup.start();
    let begin = Instant::now();
    let refused = service.post("/output", &setup.body(json!({"case": "hang"})));
    let took = begin.elapsed();
    refused.expect_problem(504, "deadline_exceeded");
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");
    answers_again(&service, &setup);
}

fn a_job_whose_worker_always_dies_ends_after_its_attempts(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--max-attempts", "3"]);
    let service = setup.start();
    let doomed = service.submit("/input", &setup.body(json!({"case": "segfault"})));
    let fine: Vec<_> = (0..3).map(|_| service.submit("/input", &setup.body(json!({})))).collect();
    for job in &fine {
        assert_eq!(service.ended(job)["state"], "done");
    }
    let status = service.ended(&doomed);
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(3)), "{status}");
    assert_eq!(status["error"]["code"], "worker_crashed", "{status}");
    assert!(status["error"]["message"].as_str().unwrap().contains("signal 11"), "{status}");
    let metrics = service.get("/metrics").text().to_owned();
    assert!(metrics.contains("dunnage_workers_lost_total{reason=\"segfault\",service=\"calls\"} 3"), "three starts: {metrics}");
    answers_again(&service, &setup);
}

fn a_job_that_hangs_ends_at_its_deadline(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--max-attempts", "1", "--job-timeout", "1s"]);
    let service = setup.start();
    let hangs = service.submit("/train", &setup.body(json!({"case": "stubborn"})));
    let status = service.ended(&hangs);
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!("deadline_exceeded")), "{status}");
    assert_eq!(service.done("/train", &setup.body(json!({})))["attempt"], 1);
}

fn what_a_script_has_started_ends_with_its_worker(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--max-attempts", "1", "--job-timeout", "2s"]);
    let service = setup.start();
    let before = service.processes().len();
    let job = service.submit("/input", &setup.body(json!({"case": "spawn"})));
    eventually("worker and grandchild run", Duration::from_secs(10), || (service.processes().len() >= before + 2).then_some(()));
    assert_eq!(service.ended(&job)["error"]["code"], "deadline_exceeded");
    eventually("both are gone", Duration::from_secs(3), || (service.processes().len() == before).then_some(()));
}

#[test]
fn the_last_words_of_a_worker_are_in_the_log_of_its_job() {
    let script = "import os, sys\ndef input(files, ctx):\n    sys.stderr.write('CUDA error: out of memory\\n')\n    os.abort()\n";
    let setup = Setup::inline(Language::Python, "dies", script).flags(&["--max-attempts", "1"]);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    assert_eq!(service.ended(&job)["error"]["code"], "worker_crashed");
    let log = service.job_log(&job);
    let said = |source: &str, text: &str| {
        log.iter().any(|line| line["source"] == source && line["message"].as_str().unwrap().contains(text))
    };
    assert!(said("stderr", "CUDA error: out of memory") && said("server", "signal 6 (abort)"), "{log:?}");
}

#[test]
fn a_serving_worker_that_is_killed_while_idle_is_replaced() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--workers", "2"]);
    let service = setup.start();
    let two = || Some(service.workers()).filter(|workers| workers.len() == 2);
    let before = eventually("both workers run", Duration::from_secs(10), two);
    signal(before[0], "KILL");
    let after = eventually("it is replaced", Duration::from_secs(10), || two().filter(|workers| !workers.contains(&before[0])));
    assert!(after.contains(&before[1]), "the other goes on");
    answers_again(&service, &setup);
}

#[test]
fn only_the_requests_of_the_dead_worker_fail_while_others_are_in_flight() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--workers", "2"]);
    let service = setup.start();
    let crash = Request::new("POST", "/output").json(&setup.body(json!({"case": "abort"})));
    let echo = |number: u32| Request::new("POST", "/output").json(&setup.body(json!({"case": "values", "values": [number]})));
    std::thread::scope(|scope| {
        let crashing = scope.spawn(|| service.send(&crash));
        let echoing: Vec<_> = (0..4_u32)
            .map(|thread| {
                scope.spawn({
                    let (service, echo) = (&service, &echo);
                    move || {
                        (0..25)
                            .map(|round| thread * 100 + round)
                            .map(|number| (number, service.send(&echo(number))))
                            .collect::<Vec<_>>()
                    }
                })
            })
            .collect();
        crashing.join().unwrap().expect_problem(502, "worker_crashed");
        for (number, answered) in echoing.into_iter().flat_map(|thread| thread.join().unwrap()) {
            assert_eq!(answered.expect(200), json!({"outputVector": [number]}));
        }
    });
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--max-queue", "1", "--timeout", "3s"]);
    let service = setup.start();
    let hang = Request::new("POST", "/output").json(&setup.body(json!({"case": "hang"})));
    std::thread::scope(|scope| {
        let hanging: Vec<_> = (0..4).map(|_| scope.spawn(|| service.send(&hang))).collect();
        let mut statuses: Vec<_> = hanging.into_iter().map(|thread| thread.join().unwrap().status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [503, 503, 504, 504]);
    });
    answers_again(&service, &setup);
    assert!(service.get("/metrics").text().contains("status=\"503\""));
}

/// A script that cannot be loaded, but takes its time to say so.
const BROKEN: &str = "import time\ntime.sleep(1)\nraise RuntimeError('not today')\n";

#[test]
fn who_waits_for_the_first_worker_hears_why_there_is_none() {
    let setup = Setup::inline(Language::Python, "broken", BROKEN).flags(&["--timeout", "60s"]);
    let service = setup.launch();
    let answered = service.post("/output", &setup.body(json!({})));
    answered.expect_problem(503, "worker_unavailable");
    assert!(answered.text().contains("not today"), "{}", answered.text());
}

#[test]
fn a_job_that_waits_for_a_worker_says_so_and_can_be_cancelled() {
    for job_workers in ["0", "1"] {
        let setup = Setup::inline(Language::Python, "broken", BROKEN).flags(&["--job-workers", job_workers, "--grace", "1s"]);
        let service = setup.launch();
        let job = service.submit("/input", &setup.body(json!({})));
        if job_workers == "1" {
            let told = || service.get(&format!("/jobs/{job}/logs")).text().contains("the job waits").then_some(());
            eventually("the job's log says why it waits", Duration::from_secs(20), told);
        }
        service.send(&Request::new("DELETE", &format!("/jobs/{job}")));
        assert_eq!(service.ended(&job)["state"], "cancelled");
        service.submit("/input", &setup.body(json!({})));
        let (status, log) = service.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn many_cancellations_do_not_put_off_the_end_of_a_job() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--cancel-grace", "500ms"]);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    service.wait_for(&job, "it runs", |status| status["progress"]["message"] == "waiting");
    for _ in 0..400 {
        service.send(&Request::new("DELETE", &format!("/jobs/{job}")));
    }
    assert_eq!(service.ended(&job)["state"], "cancelled");
}

#[test]
fn a_worker_that_does_not_read_is_replaced() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--timeout", "2s"]);
    let service = setup.start();
    let worker = service.workers()[0];
    rustix::process::kill_process(rustix::process::Pid::from_raw(worker).unwrap(), rustix::process::Signal::STOP).unwrap();
    let large = setup.body(json!({"case": "values", "values": vec![1; 300_000]}));
    service.post("/output", &large).expect_problem(504, "deadline_exceeded");
    answers_again(&service, &setup);
}

#[test]
fn overload_does_not_kill_the_workers() {
    let script = "import time\ndef output(files, ctx):\n    time.sleep(0.3)\n    return [1]\n";
    let setup = Setup::inline(Language::Python, "slow", script).flags(&["--timeout", "1500ms"]);
    let service = setup.start();
    let ask = Request::new("POST", "/output").json(&setup.body(json!({})));
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..12).map(|_| scope.spawn(|| (0..2).map(|_| service.send(&ask).status).collect::<Vec<_>>())).collect();
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503 | 504)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    let metrics = service.get("/metrics").text().to_owned();
    assert!(metrics.contains("dunnage_workers_lost_total{reason=\"timeout\",service=\"slow\"} 0"), "{metrics}");
}

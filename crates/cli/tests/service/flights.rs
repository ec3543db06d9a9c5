//! Many requests in flight while a worker, or the server, ends: each is answered with its own number or refused, and nobody else's.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dunnage_testing::census::{self, eventually};
use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, job_id, signal, vector};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

in_both_languages!(
    a_crash_costs_its_own_request_of_twenty_in_flight,
    a_crash_costs_its_own_batch_and_no_other,
    a_crash_costs_nothing_that_was_sent_ahead,
    a_hung_call_costs_nothing_that_was_sent_ahead,
    answers_around_the_deadline_reach_those_who_asked,
    a_told_end_answers_what_is_in_flight_and_hands_jobs_back,
    a_killed_server_can_be_started_on_its_port_at_once,
    workers_outlive_every_thread_that_may_come_and_go,
);

fn output(file: &str, params: &Value) -> Request {
    Request::new("POST", "/output").json(&json!({"Files": [file], "Params": params}))
}

/// Sends requests at once, and returns the answers in their order.
fn at_once(service: &Service, requests: &[Request]) -> Vec<Response> {
    std::thread::scope(|scope| {
        let sending: Vec<_> = requests.iter().map(|request| scope.spawn(move || service.send(request))).collect();
        sending.into_iter().map(|sent| sent.join().unwrap()).collect()
    })
}

/// Every answer has the number of its request, or else one of these statuses; how many were answered.
#[track_caller]
fn own_answers(answers: &[(u32, Response)], others: &[u16]) -> usize {
    for (number, response) in answers {
        match response.status {
            200 => assert_eq!(vector(response)[0], f64::from(*number), "an answer to another's request"),
            status => assert!(others.contains(&status), "request {number}: {response}"),
        }
    }
    answers.iter().filter(|(_, response)| response.status == 200).count()
}

fn a_crash_costs_its_own_request_of_twenty_in_flight(language: Language) {
    let setup = Setup::new(language, "behaviours").flags(&["--workers", "3"]);
    let (file, service) = (setup.file("walk.csv", "1"), setup.start());
    let three = || Some(service.workers()).filter(|workers| workers.len() == 3);
    let before = eventually("three workers run", Duration::from_secs(10), three);
    let server = service.pid();
    for case in ["segfault", "abort", "hard_exit"] {
        let params = |number: u32| match number {
            7 => json!({"case": case}),
            _ => json!({"number": number, "seconds": 0.05}),
        };
        let requests: Vec<_> = (0..20).map(|number| output(&file, &params(number))).collect();
        let answers: Vec<_> = (0..).zip(at_once(&service, &requests)).collect();
        answers[7].1.expect_problem(502, "worker_crashed");
        assert_eq!(own_answers(&answers, &[502]), 19, "{case}: only one request is lost");
    }
    let after = eventually("there are three workers again", Duration::from_secs(10), three);
    assert_eq!(service.pid(), server);
    assert!(after.iter().any(|worker| !before.contains(worker)), "{before:?}, {after:?}");
    let metrics = service.get("/metrics").text().to_owned();
    for reason in ["segfault", "abort", "exit"] {
        assert!(metrics.contains(&format!("lost_total{{reason=\"{reason}\",service=\"behaviours\"}} 1")), "{metrics}");
    }
}

/// Answers the number and the size of the batch; crashes where one of it asks for that; waits where one does.
fn batching(language: Language) -> &'static str {
    match language {
        Language::Python => {
            "import os, sys, time\n\
             def output_batch(requests, ctx):\n    \
                 if any('wait' in each.params for each in requests):\n        print('waiting', file=sys.stderr)\n        time.sleep(1)\n    \
                 if any('crash' in each.params for each in requests):\n        os.abort()\n    \
                 return [[each.params['number'], len(requests)] for each in requests]\n"
        }
        Language::Lua => {
            "local ffi = require('ffi')\nffi.cdef('void abort(void); int usleep(unsigned microseconds);')\n\
             return { output_batch = function(requests)\n  local answers = {}\n  for _, each in ipairs(requests) do\n    \
             if each.params.wait then io.stderr:write('waiting\\n') ffi.C.usleep(1000000) end\n    \
             if each.params.crash then ffi.C.abort() end\n  end\n  \
             for i, each in ipairs(requests) do answers[i] = { each.params.number, #requests } end\n  return answers\nend }\n"
        }
    }
}

fn a_crash_costs_its_own_batch_and_no_other(language: Language) {
    let setup = Setup::inline(language, "model", batching(language)).flags(&["--max-batch", "4"]);
    let (file, service) = (setup.file("walk.csv", "1"), setup.start());
    let first = output(&file, &json!({"number": 100, "wait": true}));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| service.send(&first));
        let waits = || service.log().iter().any(|line| line.contains("waiting")).then_some(());
        eventually("the worker is busy", Duration::from_secs(5), waits);
        // They queue up behind it one after the other, and are then taken four at a time.
        let streams: Vec<_> = (0..12_u32)
            .map(|number| {
                let params = if number == 5 { json!({"number": number, "crash": true}) } else { json!({"number": number}) };
                let request = output(&file, &params);
                let stream = request.begin(service.address()).unwrap();
                let queued = format!("dunnage_outputs_queued{{service=\"model\"}} {}\n", number + 1);
                let queues = || service.get("/metrics").text().contains(&queued).then_some(());
                eventually("it waits", Duration::from_secs(5), queues);
                (number, request, stream)
            })
            .collect();
        assert_eq!(vector(&waiting.join().unwrap()), [100.0, 1.0]);
        for (number, request, stream) in streams {
            let answered = request.answer_over(stream).unwrap();
            match number {
                4..=7 => drop(answered.expect_problem(502, "worker_crashed")),
                _ => assert_eq!(vector(&answered), [f64::from(number), 4.0]),
            }
        }
    });
}

/// Sends many requests at once that take no time, and one that goes wrong, early or late. It alone fails, with `status` and `code`.
fn one_of_many_fails(setup: &Setup, service: &Service, wrong: &Value, (status, code): (u16, &str), places: &[u32]) {
    let file = setup.file("walk.csv", "1");
    let hurry: Vec<_> = (0..200).map(|number| output(&file, &json!({"number": number}))).collect();
    let hurried: Vec<_> = (0..).zip(at_once(service, &hurry)).collect();
    assert_eq!(own_answers(&hurried, &[]), 200);
    for &bad in places {
        let params = |number: u32| if number == bad { wrong.clone() } else { json!({"number": number}) };
        let requests: Vec<_> = (0..300).map(|number| output(&file, &params(number))).collect();
        let answers: Vec<_> = (0..).zip(at_once(service, &requests)).collect();
        answers[bad as usize].1.expect_problem(status, code);
        assert_eq!(own_answers(&answers, &[status]), 299, "only one request is lost");
    }
}

fn a_crash_costs_nothing_that_was_sent_ahead(language: Language) {
    let setup = Setup::new(language, "behaviours").flags(&["--workers", "1", "--max-queue-wait", "0s"]);
    let service = setup.start();
    for case in ["segfault", "hard_exit"] {
        one_of_many_fails(&setup, &service, &json!({"case": case}), (502, "worker_crashed"), &[1, 100, 250]);
    }
}

fn a_hung_call_costs_nothing_that_was_sent_ahead(language: Language) {
    let setup = Setup::new(language, "behaviours").flags(&["--workers", "2", "--timeout", "12s", "--max-queue-wait", "0s"]);
    let service = setup.start();
    let hangs = json!({"number": 0, "seconds": 60});
    one_of_many_fails(&setup, &service, &hangs, (504, "deadline_exceeded"), &[100]);
}

fn answers_around_the_deadline_reach_those_who_asked(language: Language) {
    const DEADLINE: f64 = 1.0;
    let setup = Setup::new(language, "behaviours").flags(&["--workers", "8", "--timeout", "1s", "--max-queue-wait", "0s"]);
    let (file, service) = (setup.file("walk.csv", "1"), setup.start());
    // From nothing to twice the deadline, in no order that the numbers have.
    let seconds = |number: u32| f64::from(number * 7919 % 500) / 500.0 * 2.0 * DEADLINE;
    let params = |number: u32| json!({"number": number, "seconds": if number.is_multiple_of(5) { seconds(number) } else { 0.0 }});
    let requests: Vec<_> = (0..500).map(|number| output(&file, &params(number))).collect();
    let answers: Vec<_> = (0..).zip(at_once(&service, &requests)).collect();
    let answered = own_answers(&answers, &[503, 504]);
    assert!(answered >= 5, "{answered} of 500");
    assert!(answers.iter().any(|(_, response)| response.status == 504), "none was late");
    let calm: Vec<_> = (1000..1020).map(|number| output(&file, &json!({"number": number}))).collect();
    let again = || {
        let answers: Vec<_> = (1000..).zip(at_once(&service, &calm)).collect();
        (own_answers(&answers, &[503, 504]) == 20).then_some(())
    };
    eventually("all are answered once that is over", Duration::from_secs(20), again);
}

fn a_told_end_answers_what_is_in_flight_and_hands_jobs_back(language: Language) {
    let flags = ["--workers", "4", "--job-workers", "2", "--grace", "500ms", "--max-queue-wait", "0s"];
    let setup = Setup::new(language, "behaviours").flags(&flags);
    let (file, first) = (setup.file("walk.csv", "1"), setup.start());
    let body = |params: Value| json!({"Files": [file], "Params": params});
    let jobs: Vec<_> = (0..4).map(|_| first.submit("/input", &body(json!({"case": "long"})))).collect();
    let running = |job: &&String| first.status(job)["state"] == "running";
    eventually("two run", Duration::from_secs(10), || (jobs.iter().filter(running).count() == 2).then_some(()));
    let requests: Vec<_> = (0..20).map(|number| output(&file, &json!({"number": number, "seconds": 0.3}))).collect();
    let begun: Vec<_> = requests.iter().map(|request| request.begin(first.address()).unwrap()).collect();
    let queued = || first.get("/metrics").text().contains("dunnage_outputs_queued{service=\"behaviours\"} 16\n").then_some(());
    eventually("all are in flight", Duration::from_secs(5), queued);
    signal(first.pid(), "TERM");
    let is_not_ready = || (first.get("/healthz/ready").status == 503).then_some(());
    eventually("it says first that it is not ready", Duration::from_secs(1), is_not_ready);
    first.get("/healthz/ready").expect_problem(503, "shutting_down");
    let (status, log) = first.await_end();
    assert_eq!(status.code(), Some(0), "{log}");
    for (number, (request, stream)) in (0_u32..).zip(requests.iter().zip(begun)) {
        assert_eq!(vector(&request.answer_over(stream).unwrap()), [f64::from(number)]);
    }
    let second = setup.start();
    for job in &jobs {
        let status = second.wait_for(job, "it runs again", |status| status["state"] != "queued");
        assert_eq!(status["attempt"], 1, "the end of the server is not charged: {status}");
        second.send(&Request::new("DELETE", &format!("/jobs/{job}")));
    }
}

fn a_killed_server_can_be_started_on_its_port_at_once(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let first = setup.start();
    let port = first.address().port();
    let file = setup.file("walk.csv", "1");
    // Connections that the killed server has open do not keep the port, nor do its workers.
    let _open = output(&file, &json!({"case": "deaf"})).begin(first.address()).unwrap();
    let worker = first.workers()[0];
    first.kill(Duration::from_secs(2));
    let setup = setup.port(port);
    let begin = Instant::now();
    let second = setup.start();
    assert_eq!(second.address().port(), port);
    assert!(begin.elapsed() < Duration::from_secs(20) && !second.workers().contains(&worker));
    assert_eq!(vector(&second.send(&output(&file, &json!({"number": 3})))), [3.0]);
}

/// The threads of a process.
fn threads(pid: i32) -> BTreeSet<OsString> {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// The kernel ends a worker with the thread that has started it, so that this must not be one that waits for work and then goes.
fn workers_outlive_every_thread_that_may_come_and_go(language: Language) {
    // The threads that do the database's and the disk's work go after ten idle seconds.
    const IDLE: Duration = Duration::from_secs(12);
    let setup = Setup::new(language, "behaviours").flags(&["--workers", "2", "--recycle-after", "10"]);
    let service = setup.start();
    let busy = AtomicBool::new(true);
    let seen = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while busy.load(Ordering::SeqCst) {
                    service
                        .send(&Request::new("POST", "/output").form(&[("a", "x")], &[("Params", "{\"number\": 1}")]))
                        .expect(200);
                }
            });
        }
        let mut seen = BTreeSet::new();
        for _ in 0..10 {
            let job = job_id(&service.send(&Request::new("POST", "/input").form(&[("a", "x"), ("b", "y")], &[])));
            seen.extend(threads(service.pid()));
            assert_eq!(service.ended(&job)["state"], "done");
        }
        busy.store(false, Ordering::SeqCst);
        seen
    });
    let settled = || {
        let workers = service.workers();
        std::thread::sleep(Duration::from_millis(500));
        (service.workers() == workers).then_some(workers)
    };
    let workers = eventually("nobody is being replaced any more", Duration::from_secs(20), settled);
    std::thread::sleep(IDLE);
    assert!(!seen.is_subset(&threads(service.pid())), "no thread has ended of {seen:?}");
    assert_eq!(service.workers(), workers);
    assert!(workers.iter().all(|worker| !census::command_line(*worker).is_empty()));
}

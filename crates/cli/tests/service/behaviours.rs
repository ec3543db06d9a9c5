//! What scripts may do at every stage, and what their callers are told: never that it went well when it did not.

use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, vector};
use dunnage_testing::setup::{Setup, built};
use serde_json::{Value, json};

in_both_languages!(
    a_script_that_ends_its_worker_answers_nothing,
    a_job_that_ends_its_worker_is_not_done,
    a_script_that_ends_its_worker_while_it_is_loaded_is_explained,
    what_a_script_leaves_running_harms_no_call,
    a_script_that_cuts_its_own_connection_costs_its_worker_only,
    a_huge_vector_is_refused,
    a_changed_surrounding_ends_with_its_worker,
    a_worker_that_has_lost_its_device_is_replaced_before_the_next_request,
    every_answer_is_its_own_while_workers_crash_and_hang,
    a_flood_of_output_is_cut,
    short_lines_without_end_keep_nobody_waiting,
    answers_too_many_reach_no_other_request,
);

/// Cases after which the worker is gone, or the script has failed: with the code and a part of the reason.
fn endings(language: Language) -> Vec<(&'static str, &'static str, &'static str)> {
    let ended = [
        ("hard_exit", "worker_crashed", "exited with code 0"),
        ("abort", "worker_crashed", "signal 6 (abort)"),
        ("segfault", "worker_crashed", "signal 11 (segmentation fault)"),
        ("deaf", "deadline_exceeded", ""),
    ];
    let by_language: &[_] = match language {
        Language::Python => &[
            ("exit", "script_error", "SystemExit"),
            ("raise_exit", "script_error", "SystemExit"),
            ("interrupt", "script_error", "KeyboardInterrupt"),
            ("handled", "worker_crashed", "signal 11 (segmentation fault)"),
        ],
        Language::Lua => &[("exit", "worker_crashed", "exited with code 0")],
    };
    ended.iter().chain(by_language).copied().collect()
}

/// What a script may leave running, or print, without harm to its calls.
const HARMLESS: [&str; 8] = ["fork", "daemon", "orphans", "thread", "flood", "bytes", "closed", "children"];

fn setup(language: Language) -> Setup {
    setup_with_timeout(language, "3s")
}

fn setup_with_timeout(language: Language, timeout: &str) -> Setup {
    Setup::new(language, "behaviours").flags(&["--timeout", timeout, "--job-timeout", timeout, "--max-attempts", "1"])
}

/// The next request is answered with its own number, though perhaps not before there is another worker.
#[track_caller]
fn answers(service: &Service, setup: &Setup, number: u32) {
    assert_eq!(service.output(&setup.body(json!({"number": number}))), [f64::from(number)]);
}

fn status_of(code: &str) -> u16 {
    match code {
        "script_error" => 500,
        "worker_crashed" => 502,
        _ => 504,
    }
}

fn a_script_that_ends_its_worker_answers_nothing(language: Language) {
    let setup = setup(language);
    let service = setup.start();
    for (number, (case, code, reason)) in (1..).zip(endings(language)) {
        let begin = Instant::now();
        let refused = service.post("/output", &setup.body(json!({"case": case})));
        let detail = refused.expect_problem(status_of(code), code);
        assert!(detail.contains(reason), "{case}: {detail}");
        assert!(begin.elapsed() < Duration::from_secs(6), "{case}: {:?}", begin.elapsed());
        answers(&service, &setup, number);
    }
}

fn a_job_that_ends_its_worker_is_not_done(language: Language) {
    let setup = setup(language);
    let service = setup.start();
    for (case, code, reason) in endings(language) {
        let jobs = ["/train", "/input"].map(|target| service.submit(target, &setup.body(json!({"case": case}))));
        for job in &jobs {
            let status = service.ended(job);
            assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!(code)), "{case}: {status}");
            let message = status["error"]["message"].as_str().unwrap();
            assert!(message.contains(reason), "{case}: {message}");
        }
    }
    assert_eq!(service.done("/train", &setup.body(json!({})))["result"], "it returned");
}

fn a_script_that_ends_its_worker_while_it_is_loaded_is_explained(language: Language) {
    let setup = setup(language).flags(&["--load-timeout", "2s"]);
    let on_load = setup.folder().join("on_load");
    std::fs::write(&on_load, "hard_exit").unwrap();
    let service = setup.launch();
    for (case, code, reason) in endings(language) {
        std::fs::write(&on_load, case).unwrap();
        touch(setup.script());
        let reason = if code == "deadline_exceeded" { "its deadline passed" } else { reason };
        let explained = || Some(service.get("/healthz/ready")).filter(|refused| refused.text().contains(reason));
        eventually(case, Duration::from_secs(10), explained).expect_problem(503, "worker_unavailable");
        assert_eq!(service.get("/healthz/live").status, 200);
        service.post("/output", &setup.body(json!({}))).expect_problem(503, "worker_unavailable");
    }
    for case in ["fork", "thread", "bytes", "nothing"] {
        std::fs::write(&on_load, case).unwrap();
        touch(setup.script());
        eventually("it is loaded", Duration::from_secs(10), || (service.get("/healthz/ready").status == 200).then_some(()));
        answers(&service, &setup, 1);
    }
}

/// Makes a file look changed.
fn touch(path: &std::path::Path) {
    let text = std::fs::read(path).unwrap();
    std::fs::write(path, text).unwrap();
}

fn what_a_script_leaves_running_harms_no_call(language: Language) {
    let setup = setup_with_timeout(language, "20s");
    let service = setup.start();
    for (number, case) in (1..).zip(HARMLESS) {
        assert_eq!(service.output(&setup.body(json!({"case": case, "number": number}))), [f64::from(number)], "{case}");
        assert_eq!(service.done("/input", &setup.body(json!({"case": case})))["result"], "it returned", "{case}");
        answers(&service, &setup, number + 100);
    }
    assert!(service.get("/metrics").text().contains("reason=\"protocol\",service=\"behaviours\"} 0"));
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn a_script_that_cuts_its_own_connection_costs_its_worker_only(language: Language) {
    let setup = setup(language);
    let service = setup.start();
    let workers = service.workers();
    service.post("/output", &setup.body(json!({"case": "unplug"}))).expect_problem(502, "worker_crashed");
    answers(&service, &setup, 7);
    assert!(service.workers().iter().all(|worker| !workers.contains(worker)), "another worker has answered");
    let job = service.submit("/train", &setup.body(json!({"case": "unplug"})));
    assert_eq!(service.ended(&job)["error"]["code"], "worker_crashed");
    answers(&service, &setup, 8);
}

fn a_huge_vector_is_refused(language: Language) {
    let setup = setup(language).flags(&["--max-output", "1MiB"]);
    let service = setup.start();
    let detail = service.post("/output", &setup.body(json!({"case": "huge"}))).expect_problem(500, "bad_output");
    assert!(detail.contains("has 1600000 bytes; at most 1048576"), "{detail}");
    answers(&service, &setup, 3);
}

fn a_changed_surrounding_ends_with_its_worker(language: Language) {
    let setup = setup(language);
    let service = setup.start();
    let number = |number: u32| json!({"case": "surroundings", "number": number});
    assert_eq!(service.output(&setup.body(number(1))), [1.0]);
    answers(&service, &setup, 2);
    service.post("/output", &setup.body(json!({"case": "abort"}))).expect_problem(502, "worker_crashed");
    answers(&service, &setup, 3);
    let worker = service.workers()[0];
    let folder = std::fs::read_link(format!("/proc/{worker}/cwd")).unwrap();
    assert_eq!(folder, setup.folder().canonicalize().unwrap());
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(!open_files.contains(" 16 "), "{open_files}");
}

fn a_worker_that_has_lost_its_device_is_replaced_before_the_next_request(language: Language) {
    let setup = setup(language);
    let service = setup.start();
    let workers = service.workers();
    let detail = service.post("/output", &setup.body(json!({"case": "poison"}))).expect_problem(502, "worker_crashed");
    assert!(detail.contains("device failed") && detail.contains("device-side assert"), "{detail}");
    answers(&service, &setup, 4);
    assert!(!service.workers().contains(&workers[0]));
    let job = service.submit("/train", &setup.body(json!({"case": "poison"})));
    assert_eq!(service.ended(&job)["error"]["code"], "worker_crashed");
    let metrics = service.get("/metrics").text().to_owned();
    assert!(metrics.contains("dunnage_workers_lost_total{reason=\"device_failed\",service=\"behaviours\"} 2"), "{metrics}");
}

fn every_answer_is_its_own_while_workers_crash_and_hang(language: Language) {
    let setup = setup_with_timeout(language, "1s").flags(&["--workers", "3"]);
    let service = setup.start();
    let cases = ["nothing", "abort", "sleep", "nothing", "segfault", "nothing", "deaf", "nothing"];
    // From nothing to twice the deadline, so that some answers are on their way when it passes.
    let seconds = |number: u32| if number.is_multiple_of(3) { f64::from(number * 7 % 20) / 10.0 } else { 0.0 };
    let case = |number: u32| cases[number as usize % cases.len()];
    let body = |number: u32| setup.body(json!({"case": case(number), "number": number, "seconds": seconds(number)}));
    let ask = |number: u32| (number, service.send(&Request::new("POST", "/output").json(&body(number))));
    let answered: Vec<_> = std::thread::scope(|scope| {
        let ask = &ask;
        let asking: Vec<_> =
            (0..6).map(|thread| scope.spawn(move || (0..16).map(|round| ask(round * 6 + thread)).collect::<Vec<_>>())).collect();
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut answers = 0;
    for (number, response) in answered {
        match response.status {
            200 => {
                answers += 1;
                assert_eq!(vector(&response), [f64::from(number)], "an answer to another's request");
            }
            // With a second for each, and workers that hang, some can be told at once that they would be late.
            status => assert!(matches!(status, 502..=504), "{status}: {}", response.text()),
        }
    }
    assert!(answers >= 8, "{answers} of 96");
}

/// Workers that answer more than they were asked, which no script of ours can make them do: the runtime without a language does it.
fn answers_too_many_reach_no_other_request(language: Language) {
    let runtime = built("dunnage-fake");
    let setup = Setup::inline(language, "model", "acts").flags(&["--runtime", runtime.to_str().unwrap(), "--workers", "2"]);
    let service = setup.start();
    for wrong in ["before", "ahead"] {
        for number in 1..=20_u32 {
            let act = if number % 4 == 0 { json!({"x": number, "answer": wrong}) } else { json!({"x": number}) };
            let answered = service.post("/output", &setup.body(act));
            match number % 4 {
                0 => assert!(answered.expect_problem(502, "worker_crashed").contains("broke the protocol"), "{answered}"),
                _ => assert_eq!(answered.expect(200), json!({"outputVector": [f64::from(number), 0.0]})),
            }
        }
    }
}

fn a_flood_of_output_is_cut(language: Language) {
    let setup = setup_with_timeout(language, "30s");
    let service = setup.start();
    assert_eq!(service.output(&setup.body(json!({"case": "flood", "number": 5}))), [5.0]);
    answers(&service, &setup, 6);
    let logged: Vec<Value> = service.log().iter().map(|line| serde_json::from_str(line).expect("a record a line")).collect();
    let bytes: usize = service.log().iter().map(String::len).sum();
    assert!(bytes < 40 << 20, "{bytes} bytes were logged of 100 MiB");
    let cut = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains("bytes left out"));
    assert!(logged.iter().any(cut), "the cut is told");
}

fn short_lines_without_end_keep_nobody_waiting(language: Language) {
    let setup = setup(language);
    let service = setup.start();
    let server = service.pid();
    assert_eq!(service.output(&setup.body(json!({"case": "chatter", "number": 5}))), [5.0]);
    // For longer than what may be printed at once lasts.
    let begun = Instant::now();
    for number in (1..).take_while(|_| begun.elapsed() < Duration::from_secs(5)) {
        answers(&service, &setup, number);
        std::thread::sleep(Duration::from_millis(100));
    }
    let problem = service.post("/output", &setup.body(json!({"case": "deaf"})));
    problem.expect_problem(504, "deadline_exceeded");
    answers(&service, &setup, 7);
    assert_eq!(service.pid(), server);
    let bytes: usize = service.log().iter().map(String::len).sum();
    assert!(bytes < 80 << 20, "{bytes} bytes were logged of lines without end");
}

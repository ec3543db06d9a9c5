//! What runs in the background of a server: a mistake in it costs a moment, and a standstill is noticed from outside.
//!
//! The mistakes are planted in copies of the binary (`dunnage_testing::mutant`).

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::mutant::{CAN_PANIC, Change, breed, breed_with};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};
use tempfile::TempDir;

in_both_languages!(
    a_job_whose_attempt_panics_is_tried_again_and_others_go_on,
    a_server_whose_loops_are_well_stays_alive_while_it_works,
    an_attempt_whose_keeper_panics_ends_and_is_tried_again,
    a_keeper_that_stands_still_is_missed,
);

/// Loops of a server by itself, and the function of each.
const LOOPS: [(&str, &str); 12] = [
    ("prefetcher", "dunnage_server::jobs::ahead::fetch_ahead::{{closure}}"),
    ("job-slot", "dunnage_server::jobs::slot::slot::{{closure}}"),
    ("rescuer", "dunnage_server::jobs::rescue::{{closure}}"),
    ("pruner", "dunnage_server::jobs::prune::{{closure}}"),
    ("orphan-retractor", "dunnage_server::jobs::retract_orphans::{{closure}}"),
    ("follower", "dunnage_server::fleet::follow::follow::{{closure}}"),
    ("presence", "dunnage_server::fleet::presence::announce::{{closure}}"),
    ("artifact-sweeper", "dunnage_server::artifacts::upkeep::sweep_now_and_then::{{closure}}"),
    ("callbacks", "dunnage_server::callbacks::deliver_all::{{closure}}"),
    ("script-reloader", "dunnage_server::reload::watch::{{closure}}"),
    ("serving-slot", "dunnage_workers::slot::run::{{closure}}"),
    ("reaper", "dunnage_workers::family::Family::reap_again_and_again::{{closure}}"),
];
/// Those that there are with a database for a fleet, and with a file of tokens.
const MORE_LOOPS: [(&str, &str); 3] = [
    ("listener", "dunnage_store::postgres::listener::listen::{{closure}}"),
    ("notifier", "dunnage_store::postgres::hints::Hints::notify_others::{{closure}}"),
    ("access-reloader", "dunnage_server::access::reloaded::follow::{{closure}}"),
];
/// How a function is spoilt.
type Spoil = fn(&'static str) -> Change;
const KEEPER: &str = "dunnage_server::jobs::keeper::Keeper::keep::{{closure}}";
const FLAGS: [&str; 3] = ["--reload", "--loop-patience", "1s"];
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const PATIENCE: Duration = Duration::from_secs(30);

fn setup(language: Language) -> Setup {
    Setup::new(language, "calls").flags(&FLAGS).environment("DUNNAGE_CALLBACK_SECRET", SECRET)
}

/// A server of which every loop has been changed, with the folder that its binary lies in.
fn spoilt(change: impl Fn(&'static str) -> Change) -> (Setup, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let changes: Vec<_> = LOOPS.iter().map(|(_, function)| change(function)).collect();
    (setup(Language::Lua).binary(breed_with(&changes, folder.path())), folder)
}

fn health(service: &Service) -> Option<String> {
    let live = service.get("/healthz/live");
    (live.status == 503).then(|| live.expect_problem(503, "loop_ailing"))
}

/// Every loop is named by the health check, and the log says so once.
fn require_all_missed(service: &Service, loops: &[(&str, &str)], complaint: &str) {
    for (name, _) in loops {
        let text = format!("the loop `{name}` {complaint}");
        eventually(&text, PATIENCE, || health(service).filter(|detail| detail.contains(&text)));
        let told = |line: &&String| line.contains(&text) && line.contains("restart this server");
        eventually("the log tells", PATIENCE, || service.log().iter().find(told).map(|_| ()));
        assert_eq!(service.log().iter().filter(told).count(), 1, "{name}");
    }
}

#[test]
fn loops_that_stand_still_fail_the_liveness_check() {
    let (setup, _folder) = spoilt(Change::ReturnsOne);
    let service = setup.launch();
    require_all_missed(&service, &LOOPS, "stands still");
    service.kill(Duration::from_secs(5));
}

#[test]
fn loops_that_end_are_started_again_and_counted_and_fail_the_liveness_check_in_the_end() {
    let (setup, _folder) = spoilt(Change::ReturnsZero);
    let service = setup.launch();
    require_all_missed(&service, &LOOPS, "has kept failing");
    require_all_counted(&service);
}

#[test]
fn loops_that_panic_are_started_again_and_counted_and_fail_the_liveness_check_in_the_end() {
    if !CAN_PANIC {
        return eprintln!("skipped: panics cannot be planted on this machine");
    }
    let (setup, _folder) = spoilt(Change::Panics);
    let service = setup.launch();
    require_all_missed(&service, &LOOPS, "has kept failing");
    require_all_counted(&service);
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn loops_for_fleets_and_tokens_are_watched_and_started_again() {
    let kinds: [(Spoil, &str); 3] =
        [(Change::ReturnsOne, "stands still"), (Change::ReturnsZero, "has kept failing"), (Change::Panics, "has kept failing")];
    for (change, complaint) in kinds.into_iter().take(if CAN_PANIC { 3 } else { 2 }) {
        let folder = tempfile::tempdir().unwrap();
        let changes = MORE_LOOPS.map(|(_, function)| change(function));
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, format!("admin {}\n", crate::access::ADMIN)).unwrap();
        std::fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let setup = setup(Language::Lua)
            .flags(&["--token-file", tokens.to_str().unwrap()])
            .environment("DUNNAGE_DATABASE_URL", &Cluster::shared().database())
            .binary(breed_with(&changes, folder.path()));
        require_all_missed(&setup.launch(), &MORE_LOOPS, complaint);
    }
}

fn require_all_counted(service: &Service) {
    for (name, _) in LOOPS {
        let metric = format!("dunnage_loop_restarts_total{{loop=\"{name}\"");
        assert!(counted(service, &metric) >= 2.0, "{name}");
    }
}

/// The value of the metric that begins so.
fn counted(service: &Service, metric: &str) -> f64 {
    let metrics = service.get("/metrics");
    let line = metrics.text().lines().find(|line| line.starts_with(metric)).unwrap_or_else(|| panic!("{metric} in\n{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn a_server_whose_loops_are_well_stays_alive_while_it_works(language: Language) {
    let setup = setup(language).flags(&["--job-idle", "1s"]);
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "wait"})));
    service.wait_for(&job, "it runs", |status| status["progress"]["message"] == "waiting");
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        service.output(&setup.body(json!({})));
        assert_eq!(health(&service), None);
        std::thread::sleep(Duration::from_millis(50));
    }
    service.send(&Request::new("DELETE", &format!("/jobs/{job}"))).expect(202);
    assert_eq!(service.ended(&job)["state"], "cancelled");
    assert_eq!(health(&service), None);
    for (name, _) in LOOPS {
        assert_eq!(counted(&service, &format!("dunnage_loop_restarts_total{{loop=\"{name}\"")), 0.0, "{name}");
    }
}

/// The attempt of a script that raises panics before it is recorded.
fn a_job_whose_attempt_panics_is_tried_again_and_others_go_on(language: Language) {
    if !CAN_PANIC {
        return eprintln!("skipped: panics cannot be planted on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let mutant = breed(Change::Panics("dunnage_server::jobs::attempt::failed"), folder.path());
    let setup = setup(language).flags(&["--lease", "1s", "--max-attempts", "2"]).binary(mutant);
    let service = setup.start();
    let broken = service.submit("/input", &setup.body(json!({"case": "raise"})));
    let well = service.done("/input", &setup.body(json!({"case": "count"})));
    assert_eq!(well["attempt"], 1);
    let ended = service.ended(&broken);
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("error"), &json!(2)), "{ended}");
    assert_eq!(counted(&service, "dunnage_loop_restarts_total{loop=\"attempt\""), 2.0);
    assert_eq!(counted(&service, "dunnage_panics_total"), 2.0);
    assert_eq!(service.done("/input", &setup.body(json!({"case": "count"})))["attempt"], 1);
    require_panic_in_log(&service);
}

/// Nobody knows any more whose the job is, so that the worker must go; its lease ends, and another attempt is made.
fn an_attempt_whose_keeper_panics_ends_and_is_tried_again(language: Language) {
    if !CAN_PANIC {
        return eprintln!("skipped: panics cannot be planted on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let setup =
        setup(language).flags(&["--lease", "1s", "--max-attempts", "2"]).binary(breed(Change::Panics(KEEPER), folder.path()));
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    let ended = service.ended(&job);
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("error"), &json!(2)), "{ended}");
    assert_eq!(counted(&service, "dunnage_loop_restarts_total{loop=\"keeper\""), 2.0);
    assert_eq!(health(&service), None);
}

fn a_keeper_that_stands_still_is_missed(language: Language) {
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(language).flags(&["--lease", "1s"]).binary(breed(Change::ReturnsOne(KEEPER), folder.path()));
    let service = setup.start();
    service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    eventually("it is missed", PATIENCE, || health(&service).filter(|detail| detail.contains("`keeper` stands still")));
    service.kill(Duration::from_secs(5));
}

/// A panic is one record with its place and thread, and nothing else is written to standard error.
fn require_panic_in_log(service: &Service) {
    for line in service.log() {
        let record: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if record["message"].as_str().is_some_and(|message| message.starts_with("a panic:")) {
            assert!(record["place"].as_str().is_some_and(|place| place.contains(".rs:")), "{line}");
            assert!(record["thread"].is_string(), "{line}");
            return;
        }
    }
    panic!("no panic is told of");
}

/// Sends two requests on one connection.
fn in_turn(service: &Service, targets: [&str; 2]) -> [Response; 2] {
    let mut stream = TcpStream::connect(service.address()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    targets.map(|target| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nX-Request-Id: mine\r\n\r\n", service.address());
        stream.write_all(head.as_bytes()).unwrap();
        Response::read(&mut reader, false).unwrap()
    })
}

#[test]
fn a_panic_in_a_handler_is_a_500_and_the_connection_goes_on() {
    if !CAN_PANIC {
        return eprintln!("skipped: panics cannot be planted on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        Change::Panics("dunnage_server::routes::jobs::list::{{closure}}"),
        Change::Panics("dunnage_server::routes::submit::enqueue::{{closure}}"),
    ];
    let setup = setup(Language::Lua).binary(breed_with(&changes, folder.path()));
    let service = setup.start();
    let [broken, next] = in_turn(&service, ["/jobs?limit=1", "/healthz/live"]);
    broken.expect_problem(500, "internal");
    assert_eq!((broken.header("x-request-id"), &broken.json()["instance"]), (Some("mine"), &json!("/jobs")));
    assert_eq!(next.status, 200, "the same connection is of use");
    let submitted = service.post("/input", &setup.body(json!({})));
    submitted.expect_problem(500, "internal");
    assert_eq!(counted(&service, "dunnage_panics_total"), 2.0);
    assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
    require_panic_in_log(&service);
}

#[test]
fn a_panic_around_every_request_is_a_500() {
    if !CAN_PANIC {
        return eprintln!("skipped: panics cannot be planted on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let mutant = breed(Change::Panics("dunnage_server::middleware::answered_at_once"), folder.path());
    let service = setup(Language::Lua).binary(mutant).launch();
    for response in in_turn(&service, ["/healthz/live", "/nowhere"]) {
        response.expect_problem(500, "internal");
    }
}

#[test]
fn a_panic_while_a_worker_is_started_costs_that_start_alone() {
    if !CAN_PANIC {
        return eprintln!("skipped: panics cannot be planted on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let mutant = breed(Change::Panics("dunnage_workers::launch::launch"), folder.path());
    let service = setup(Language::Lua).binary(mutant).launch();
    let starts = || (counted(&service, "dunnage_loop_restarts_total{loop=\"launcher\"") >= 2.0).then_some(());
    eventually("it is tried again", PATIENCE, starts);
    let refused = service.get("/healthz/ready").expect_problem(503, "worker_unavailable");
    assert!(refused.contains("cannot be started"), "{refused}");
}

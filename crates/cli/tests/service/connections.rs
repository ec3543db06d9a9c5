//! How many connections there may be, and what becomes of the others.

use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::raw::Raw;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);
/// So many connections beyond the limit are listened to.
const RESERVE: usize = 16;
const LIVE: &str = "GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
const JOBS: &str = "GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n";

in_both_languages!(
    a_connection_too_many_is_told_so_at_once_and_probes_are_answered,
    the_server_serves_on_when_no_more_files_can_be_opened,
);

/// A connection that has been served and stays open.
fn held(service: &Service) -> Raw {
    let mut raw = Raw::connect(service).sent(LIVE);
    raw.answer().expect(200);
    raw
}

fn a_connection_too_many_is_told_so_at_once_and_probes_are_answered(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--max-connections", "4"]);
    let service = setup.start();
    eventually("the connections of the start are gone", PATIENCE, || {
        (service.metric("dunnage_http_connections", "") == 1.0).then_some(())
    });
    let mut open: Vec<_> = (0..4).map(|_| held(&service)).collect();
    for _ in 0..3 {
        let begin = Instant::now();
        let answers = Raw::connect(&service).sent(JOBS).answers(PATIENCE);
        answers[0].expect_problem(503, "too_many_connections");
        assert_eq!((answers.len(), answers[0].header("connection")), (1, Some("close")));
        assert!(begin.elapsed() < Duration::from_secs(2), "it waited for {:?}", begin.elapsed());
        let probe = Raw::connect(&service).sent(LIVE.repeat(2)).answers(PATIENCE);
        assert_eq!(probe.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200], "one probe is answered");
    }
    let mut silent: Vec<_> = (0..=RESERVE).map(|_| Raw::connect(&service)).collect();
    let answered: Vec<_> = silent.iter_mut().flat_map(|raw| raw.answers(PATIENCE)).collect();
    let unasked = answered.iter().find(|answer| answer.status == 503).expect("one finds no room even there");
    unasked.expect_problem(503, "too_many_connections");
    let silent: Vec<_> = (0..=RESERVE).map(|_| Raw::connect(&service)).collect();
    // Those who say nothing are not waited for long, so that a probe soon finds room again.
    eventually("a probe is answered", PATIENCE, || {
        let answers = Raw::connect(&service).sent(LIVE).answers(PATIENCE);
        (answers.first()?.status == 200).then_some(())
    });
    drop(silent);
    for raw in &mut open {
        raw.send(JOBS).unwrap();
        raw.answer().expect(200);
    }
    drop(open);
    eventually("there is room again", PATIENCE, || {
        let mut raw = Raw::connect(&service).sent(JOBS);
        (raw.answer().status == 200).then_some(())
    });
    assert!(service.metric("dunnage_http_connections_cut_total", "no_room") >= 1.0);
    assert_eq!(service.metric("dunnage_http_connections_limit", ""), 4.0);
}

fn the_server_serves_on_when_no_more_files_can_be_opened(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let body = setup.body(json!({}));
    let mut kept = held(&service);
    let before = service.descriptors();
    limit_files(&service, before as u64 + 4);
    let crowd: Vec<_> = (0..20).map(|_| Raw::connect(&service)).collect();
    eventually("no more files can be opened", PATIENCE, || (service.descriptors() >= before + 4).then_some(()));
    let (begin, used) = (Instant::now(), cpu_time(&service));
    while begin.elapsed() < Duration::from_secs(3) {
        kept.send(LIVE).unwrap();
        kept.answer().expect(200);
        std::thread::sleep(Duration::from_millis(100));
    }
    let used = cpu_time(&service) - used;
    assert!(used < Duration::from_millis(700), "the server was busy for {used:?} of 3 s with what it cannot do");
    drop(crowd);
    eventually("connections are taken again", PATIENCE, || {
        let mut raw = Raw::connect(&service).sent(LIVE);
        (raw.answer().status == 200).then_some(())
    });
    limit_files(&service, 20_000);
    assert_eq!(service.output(&body), [6.0]);
}

/// What a client has not sent of a body is awaited for a moment after the answer, and no connection is kept alive here: both ends must not
/// wake each other.
#[test]
fn a_connection_that_is_over_keeps_nobody_busy() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--keep-alive", "0s"]);
    let service = setup.start();
    let post = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    let used = cpu_time(&service);
    let over: Vec<_> = (0..4).map(|_| Raw::connect(&service).sent(post)).collect();
    for mut raw in over {
        assert_eq!(raw.answers(PATIENCE).iter().map(|answer| answer.status).collect::<Vec<_>>(), [404]);
    }
    let used = cpu_time(&service) - used;
    assert!(used < Duration::from_millis(300), "the server was busy for {used:?} with connections on which nothing happens");
}

fn limit_files(service: &Service, files: u64) {
    let limit = Rlimit { current: Some(files), maximum: Some(20_000) };
    prlimit(Pid::from_raw(service.pid()), Resource::Nofile, limit).expect("it is our child");
}

/// How long the server's threads have run.
fn cpu_time(service: &Service) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.pid())).expect("the server runs");
    let fields: Vec<_> = stat.rsplit_once(") ").expect("a name stands in parentheses").1.split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|place| fields[*place].parse::<u64>().expect("it is a number")).sum();
    Duration::from_millis(ticks * 10)
}

//! Workers that say on their connection what they should not, at a script's bidding.

use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    what_is_no_message_costs_its_worker_and_one_request,
    an_answer_that_is_made_up_is_not_believed,
    what_is_said_after_the_call_reaches_no_other_request,
    a_job_that_breaks_the_protocol_is_not_done,
);

/// The bytes of a frame: lengths, kind, header, payload.
fn frame(kind: u16, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_le_bytes();
    [&length(header)[..], &length(payload), &kind.to_le_bytes(), &[0, 0], header, payload].concat()
}

/// An `Outputs` (104) for a call of this number, with the vector `[666.0]`.
fn outputs(call: u64) -> Vec<u8> {
    let header =
        [b"\x82\xa4call\xcf".as_slice(), &call.to_be_bytes(), b"\xa5items\x91\x81\xa6vector\x82\xa5dtype\xa3f64\xa6length\x01"];
    frame(104, &header.concat(), &666_f64.to_le_bytes())
}

/// A `Done` (105) for a call of this number, with the result 666.
fn done(call: u64) -> Vec<u8> {
    frame(105, &[b"\x82\xa4call\xcf".as_slice(), &call.to_be_bytes(), b"\xa2ok\xcd\x02\x9a"].concat(), &[])
}

/// What is no message, or none that has a place between a call and its answer.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let mut endless_payload = frame(104, b"\x80", &[]);
    endless_payload[4..8].fill(0xff);
    let mut unknown_flags = frame(104, b"\x80", &[]);
    unknown_flags[10] = 2;
    let mut no_descriptor = outputs(1);
    no_descriptor.truncate(no_descriptor.len() - 8);
    no_descriptor[10] = 1;
    vec![
        ("a header of 4 GiB", vec![0xff; 12]),
        ("a payload of 4 GiB", endless_payload),
        ("flags that mean nothing", unknown_flags),
        ("a payload in a descriptor that has not come", no_descriptor),
        ("an unknown kind", frame(9999, b"\x80", &[])),
        ("no MessagePack", frame(104, b"\xc1\xc1\xc1\xc1", &[])),
        ("half a map", frame(104, b"\x82\xa4call", &[])),
        ("an empty header", frame(104, b"", &[])),
        ("a text that is no UTF-8", frame(108, b"\x82\xa5level\xa4info\xa7message\xa2\xff\xfe", &[])),
        ("nested without end", frame(105, &[b"\x82\xa4call\x01\xa2ok".as_slice(), &[0x91; 5000]].concat(), &[])),
        ("loaded twice", frame(102, b"\x81\xa9functions\x83\xa5train\xc3\xa5input\xc3\xa6output\xc3", &[])),
        ("a message of the server's", frame(5, b"\x81\xa4call\x01", &[])),
        ("more numbers than there are bytes", {
            let mut outputs = outputs(1);
            let at = outputs.len() - 9;
            outputs[at] = 0x7f;
            outputs
        }),
    ]
}

fn started(language: Language) -> (Setup, Service) {
    let setup = Setup::new(language, "behaviours").flags(&["--timeout", "10s", "--max-attempts", "1"]);
    let service = setup.start();
    (setup, service)
}

/// The next request is answered with its own number, though perhaps not before there is another worker.
#[track_caller]
fn answers(service: &Service, setup: &Setup, number: u32) {
    assert_eq!(service.output(&setup.body(json!({"number": number}))), [f64::from(number)]);
}

fn broken_protocols(service: &Service) -> usize {
    let metrics = service.get("/metrics").text().to_owned();
    let counter = "dunnage_workers_lost_total{reason=\"protocol\",service=\"behaviours\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(counter)).unwrap().parse().unwrap()
}

fn what_is_no_message_costs_its_worker_and_one_request(language: Language) {
    let (setup, service) = started(language);
    let server = service.pid();
    let nonsense = nonsense();
    for (number, (what, bytes)) in (1..).zip(&nonsense) {
        let workers = service.workers();
        let say = json!({"say": {"when": "now", "bytes": bytes}, "number": 0});
        let detail = service.post("/output", &setup.body(say)).expect_problem(502, "worker_crashed");
        assert!(detail.contains("broke the protocol"), "{what}: {detail}");
        answers(&service, &setup, number);
        assert!(service.workers().iter().all(|worker| !workers.contains(worker)), "{what}: another worker has answered");
    }
    assert_eq!(broken_protocols(&service), nonsense.len());
    // A frame that breaks off with its worker.
    let half = &outputs(1)[..20];
    let say = json!({"say": {"when": "now", "bytes": half}, "case": "hard_exit"});
    let detail = service.post("/output", &setup.body(say)).expect_problem(502, "worker_crashed");
    assert!(detail.contains("exited with code 0"), "{detail}");
    answers(&service, &setup, 99);
    assert_eq!(service.pid(), server);
}

fn an_answer_that_is_made_up_is_not_believed(language: Language) {
    let (setup, service) = started(language);
    for (number, call) in (1..).zip([0, 1, 2, 3, u64::MAX]) {
        for message in [outputs(call), done(call)] {
            let say = json!({"say": {"when": "now", "bytes": message}, "number": 5});
            service.post("/output", &setup.body(say)).expect_problem(502, "worker_crashed");
        }
        answers(&service, &setup, number);
    }
    assert_eq!(broken_protocols(&service), 10);
}

fn what_is_said_after_the_call_reaches_no_other_request(language: Language) {
    let (setup, service) = started(language);
    for (number, call) in (1_u32..).zip([1, 2, 3]) {
        let say = json!({"say": {"when": "later", "bytes": outputs(call)}, "number": number});
        assert_eq!(service.output(&setup.body(say)), [f64::from(number)]);
        let killed = || (broken_protocols(&service) == number as usize).then_some(());
        eventually("the worker is killed while it is idle", Duration::from_secs(5), killed);
        answers(&service, &setup, number + 10);
    }
}

fn a_job_that_breaks_the_protocol_is_not_done(language: Language) {
    let (setup, service) = started(language);
    for target in ["/train", "/input"] {
        for bytes in [done(1), outputs(1), vec![0xff; 12]] {
            let job = service.submit(target, &setup.body(json!({"say": {"when": "now", "bytes": bytes}})));
            let status = service.ended(&job);
            assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!("worker_crashed")), "{status}");
            assert!(status["error"]["message"].as_str().unwrap().contains("broke the protocol"), "{status}");
        }
    }
    answers(&service, &setup, 4);
    assert_eq!(service.done("/train", &setup.body(json!({})))["result"], "it returned");
}

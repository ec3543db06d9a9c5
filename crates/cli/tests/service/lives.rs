//! One life of a service after the other, on the same data.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::job_id;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

in_both_languages!(
    no_job_is_lost_when_the_server_is_killed,
    a_terminated_service_ends_well_and_keeps_what_waits,
    a_killed_server_takes_a_hung_worker_along,
);

/// A lost server is noticed when its leases end; one second is the least there is.
const SHORT_LEASE: [&str; 2] = ["--lease", "1s"];
/// Longer than the HTTP framework by itself waits for the head of a request.
const STANDSTILL: Duration = Duration::from_secs(6);

fn no_job_is_lost_when_the_server_is_killed(language: Language) {
    let setup = Setup::new(language, "calls").flags(&SHORT_LEASE).flags(&["--job-workers", "2", "--max-attempts", "5"]);
    let first = setup.start();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (address, body) = (first.address(), setup.body(json!({"case": "count"})));
            std::thread::spawn(move || submit_until_gone(address, &body))
        })
        .collect();
    let done = || first.get("/jobs?state=done&limit=1000").expect(200)["jobs"].as_array().unwrap().len();
    eventually("some jobs are done", Duration::from_secs(20), || (done() >= 20).then_some(()));
    first.kill(Duration::from_secs(1));
    let jobs: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(jobs.len() >= 20, "{}", jobs.len());

    let second = setup.start();
    for job in jobs {
        assert_eq!(second.ended(&job)["status"], "done");
    }
}

/// The jobs that the server has answered for as long as it lived.
fn submit_until_gone(address: SocketAddr, body: &Value) -> Vec<String> {
    let answers = std::iter::from_fn(|| Request::new("POST", "/input").json(body).send(address).ok());
    answers.map(|answered| job_id(&answered)).collect()
}

fn a_terminated_service_ends_well_and_keeps_what_waits(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--grace", "300ms"]);
    let first = setup.start();
    let running = first.submit("/train", &setup.body(json!({"case": "stubborn"})));
    first.wait_for(&running, "it runs", |status| status["progress"]["message"] == "waiting");
    let waiting = first.submit("/input", &setup.body(json!({"case": "count"})));
    let (status, log) = first.terminate();
    assert_eq!(status.code(), Some(0), "{log}");

    let second = setup.start();
    let resumed = second.wait_for(&running, "it runs again", |status| status["state"] == "running");
    assert_eq!(resumed["attempt"], 1, "the interrupted attempt is not charged");
    assert_eq!(second.status(&waiting)["state"], "queued");
    second.send(&Request::new("DELETE", &format!("/jobs/{running}"))).expect(202);
    assert_eq!(second.ended(&waiting)["state"], "done");
}

fn a_killed_server_takes_a_hung_worker_along(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({"case": "stubborn"})));
    service.wait_for(&job, "it runs", |status| status["progress"]["message"] == "waiting");
    assert_eq!(service.workers().len(), 2, "one that serves, one that hangs");
    service.kill(Duration::from_secs(1));
}

#[test]
fn a_running_job_may_end_within_the_grace() {
    let script = "import time\ndef input(files, ctx):\n    ctx.progress(0.5)\n    time.sleep(0.7)\n    return 'whole'\n";
    let setup = Setup::inline(Language::Python, "slow", script).flags(&["--grace", "20s"]);
    let first = setup.start();
    let job = first.submit("/input", &setup.body(json!({})));
    first.wait_for(&job, "it runs", |status| status["progress"]["fraction"] == 0.5);
    assert_eq!(first.terminate().0.code(), Some(0));
    let second = setup.start();
    let status = second.status(&job);
    assert_eq!((&status["state"], &status["attempt"], &status["result"]), (&json!("done"), &json!(1), &json!("whole")));
}

#[test]
fn requests_in_flight_are_answered_when_the_service_is_told_to_end() {
    let script = "import time\ndef output(files, ctx):\n    open('begun', 'w').close()\n    time.sleep(0.7)\n    return [7]\n";
    let setup = Setup::inline(Language::Python, "slow", script);
    let service = setup.start();
    let (request, address) = (Request::new("POST", "/output").json(&setup.body(json!({}))), service.address());
    let answering = std::thread::spawn(move || request.send(address));
    let begun = || setup.folder().join("begun").exists().then_some(());
    eventually("the script has the request", Duration::from_secs(10), begun);
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(answering.join().unwrap().unwrap().expect(200), json!({"outputVector": [7]}));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let setup = Setup::new(Language::Lua, "calls");
    let first = setup.start();
    let (status, said) = setup.refused();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("data") && said.contains("another"), "{said}");
    assert_eq!(first.output(&setup.body(json!({}))), [6.0]);
    drop(first);
    setup.start();
}

#[test]
fn a_standstill_of_the_server_is_not_held_against_a_client() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let mut stream = TcpStream::connect(service.address()).unwrap();
    stream.write_all(b"GET /healthz/live HTTP/1.1\r\n").unwrap();
    // Connections are accepted in order: when another one is answered, the time of this one runs.
    service.get("/healthz/live").expect(200);
    service.pause();
    std::thread::sleep(STANDSTILL);
    service.resume();
    stream.write_all(format!("Host: {}\r\nConnection: close\r\n\r\n", service.address()).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

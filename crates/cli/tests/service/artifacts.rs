//! Artifacts that somebody has meddled with: no worker opens them, and whoever asks is told why.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

/// A version that could not serve is tried again after five seconds, then after ten.
const LAG: Duration = Duration::from_secs(30);

fn train(setup: &Setup, service: &Service, value: u32) {
    service.done("/train", &setup.body(json!({"value": value})));
}

#[track_caller]
fn served(setup: &Setup, service: &Service) -> f64 {
    service.output(&setup.body(json!({})))[0]
}

/// The folder of the artifact whose value is this.
fn artifact(setup: &Setup, value: &str) -> PathBuf {
    let entries = fs::read_dir(setup.data("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    let holds = |folder: &Path| fs::read_to_string(folder.join("value")).is_ok_and(|found| found == value);
    entries.filter(|folder| folder.is_dir()).find(|folder| holds(folder)).unwrap()
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What the replica that was asked says of itself; `None` before it has said that it is there.
fn of_this_replica(models: &Value) -> Option<Value> {
    models["replicas"].as_array().unwrap().iter().find(|it| it["isThis"] == true).cloned()
}

#[test]
fn an_altered_artifact_never_serves_and_serves_again_once_it_is_restored() {
    let setup = Setup::new(Language::Python, "versions");
    let service = setup.start();
    train(&setup, &service, 1);
    train(&setup, &service, 20);
    let value = artifact(&setup, "20").join("value");
    fs::write(&value, "21").unwrap();
    assert_eq!(served(&setup, &service), 20.0, "who has loaded it goes on");
    drop(service);

    let service = setup.launch();
    let because = "the artifact of version 2 is damaged: `value` has other bytes than were committed";
    let refused = eventually("it says why it is not ready", LAG, || {
        let answered = service.get("/healthz/ready");
        answered.text().contains(because).then_some(answered)
    });
    refused.expect_problem(503, "worker_unavailable");
    let output = service.post("/output", &setup.body(json!({})));
    assert!(output.text().contains(because), "{}", output.text());
    output.expect_problem(503, "worker_unavailable");
    let error = eventually("`/models` says so", LAG, || {
        let models = service.get("/models").expect(200);
        of_this_replica(&models)?["error"].as_str().map(str::to_owned)
    });
    assert!(error.contains(because), "{error}");
    let alarm = service.log().into_iter().find(|line| line.contains("no worker is given it")).unwrap();
    assert!(alarm.to_lowercase().contains("\"error\""), "{alarm}");

    fs::write(&value, "20").unwrap();
    eventually("it serves", LAG, || (service.get("/healthz/ready").status == 200).then_some(()));
    assert_eq!(served(&setup, &service), 20.0);
}

#[test]
fn another_version_can_be_activated_while_the_active_one_is_damaged() {
    let setup = Setup::new(Language::Python, "versions");
    let service = setup.start();
    train(&setup, &service, 1);
    train(&setup, &service, 20);
    drop(service);
    fs::remove_file(artifact(&setup, "20").join("value")).unwrap();
    let service = setup.launch();
    eventually("it says so", LAG, || service.get("/healthz/ready").text().contains("`value` is missing").then_some(()));
    service.send(&Request::new("POST", "/models/1/activate")).expect(200);
    assert_eq!(served(&setup, &service), 1.0);
    assert_eq!(service.get("/healthz/ready").status, 200);
}

#[test]
fn whatever_is_put_into_an_artifact_keeps_it_from_being_activated_and_is_named() {
    type Tampering = fn(&Path);
    let table: [(Tampering, &str); 4] = [
        (|at| fs::write(at.join("value"), "2").unwrap(), "`value` has other bytes"),
        (|at| fs::write(at.join("value"), "1 ").unwrap(), "`value` has 2 bytes, expected 1"),
        (|at| symlink("/etc/passwd", at.join("link")).unwrap(), "`link`, which is neither a file nor a folder"),
        (|at| make_pipe(&at.join("pipe")), "`pipe`, which is neither a file nor a folder"),
    ];
    let setup = Setup::new(Language::Lua, "versions");
    let service = setup.start();
    train(&setup, &service, 1);
    train(&setup, &service, 20);
    let first = artifact(&setup, "1");
    for (tamper, named) in table {
        tamper(&first);
        let begin = Instant::now();
        let refused = service.send(&Request::new("POST", "/models/1/activate"));
        assert!(begin.elapsed() < Duration::from_secs(1), "nothing is waited for");
        assert!(refused.text().contains(named), "{}", refused.text());
        refused.expect_problem(409, "version_bad");
        assert_eq!(served(&setup, &service), 20.0);
        for strange in ["link", "pipe"] {
            let _ = fs::remove_file(first.join(strange));
        }
        fs::write(first.join("value"), "1").unwrap();
    }
    service.send(&Request::new("POST", "/models/1/activate")).expect(200);
    assert_eq!(served(&setup, &service), 1.0);
}

#[test]
fn what_a_script_has_left_in_an_artifact_is_removed_and_the_version_serves() {
    let setup = Setup::new(Language::Python, "versions");
    let service = setup.start();
    train(&setup, &service, 1);
    let folder = artifact(&setup, "1");
    service.terminate();
    fs::create_dir(folder.join("__pycache__")).unwrap();
    fs::write(folder.join("__pycache__/net.pyc"), "1").unwrap();
    fs::write(folder.join("more.pkl"), "1").unwrap();
    let service = setup.start();
    assert_eq!(served(&setup, &service), 1.0);
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["value"]);
}

#[test]
fn training_waits_while_the_active_artifact_is_damaged_and_says_why() {
    let setup = Setup::new(Language::Python, "versions");
    let service = setup.start();
    train(&setup, &service, 1);
    drop(service);
    let value = artifact(&setup, "1").join("value");
    fs::write(&value, "7").unwrap();
    let service = setup.launch();
    let job = service.submit("/train", &setup.body(json!({"value": 2})));
    eventually("its log says why", LAG, || {
        let log = service.job_log(&job);
        log.iter().any(|line| line["message"].as_str().unwrap().contains("`value` has other bytes")).then_some(())
    });
    fs::write(&value, "1").unwrap();
    assert_eq!(service.ended(&job)["state"], "done");
    assert_eq!(served(&setup, &service), 2.0);
}

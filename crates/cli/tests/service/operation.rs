//! What operators meet: starting, health, metrics, a changed script, a description for machines.

use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde::Deserialize;
use serde_json::json;

in_both_languages!(
    a_script_that_cannot_be_loaded_is_explained_and_loaded_once_it_is_mended,
    a_changed_script_is_taken_up_and_a_broken_one_is_not,
);

const PATIENCE: Duration = Duration::from_secs(20);

fn answering(language: Language, value: u32) -> String {
    match language {
        Language::Python => format!("def output(files, ctx):\n    return [{value}]\n"),
        Language::Lua => format!("return {{ output = function() return {{ {value} }} end }}\n"),
    }
}

fn broken(language: Language) -> &'static str {
    match language {
        Language::Python => "raise RuntimeError('no weights here')\n",
        Language::Lua => "error('no weights here')\n",
    }
}

fn a_script_that_cannot_be_loaded_is_explained_and_loaded_once_it_is_mended(language: Language) {
    let setup = Setup::inline(language, "model", broken(language));
    let service = setup.launch();
    let explained = || {
        let refused = service.get("/healthz/ready");
        (refused.status == 503 && refused.text().contains("no weights here")).then_some(refused)
    };
    eventually("the reason is told", PATIENCE, explained).expect_problem(503, "worker_unavailable");
    assert_eq!(service.get("/healthz/live").expect(200), json!({"status": "ok"}));
    service.get("/healthz/startup").expect_problem(503, "worker_unavailable");
    let refused = service.post("/output", &setup.body(json!({}))).expect_problem(503, "worker_unavailable");
    assert!(refused.contains("no weights here") && !refused.contains("raceback"), "{refused}");
    std::fs::write(setup.script(), answering(language, 7)).unwrap();
    eventually("it is loaded", PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
    assert_eq!(service.get("/healthz/startup").status, 200);
    assert_eq!(service.output(&setup.body(json!({}))), [7.0]);
}

fn a_changed_script_is_taken_up_and_a_broken_one_is_not(language: Language) {
    let setup = Setup::inline(language, "model", &answering(language, 1)).flags(&["--reload"]);
    let service = setup.start();
    let answer = || service.output(&setup.body(json!({})));
    let becomes = |value: u32| {
        eventually(&format!("the answer becomes {value}"), PATIENCE, || (answer() == [f64::from(value)]).then_some(()));
    };
    becomes(1);
    std::fs::write(setup.script(), answering(language, 22)).unwrap();
    becomes(22);
    std::fs::write(setup.script(), broken(language)).unwrap();
    let refused = || service.log().into_iter().find(|line| line.contains("cannot be loaded; the one before goes on"));
    eventually("it is refused", PATIENCE, refused);
    assert_eq!(answer(), [22.0]);
    std::fs::write(setup.script(), answering(language, 333)).unwrap();
    becomes(333);
}

#[test]
fn without_reload_a_changed_script_changes_nothing() {
    let setup = Setup::inline(Language::Lua, "model", &answering(Language::Lua, 1));
    let service = setup.start();
    std::fs::write(setup.script(), answering(Language::Lua, 22)).unwrap();
    assert_eq!(service.output(&setup.body(json!({}))), [1.0]);
}

/// What every line of the log has. Reading it fails where a line has one of them twice.
#[derive(Deserialize)]
struct LogLine {
    timestamp: String,
    level: String,
    message: String,
    target: String,
}

#[test]
fn every_line_of_the_log_is_an_object_with_the_same_fields() {
    let script = "def output(files, ctx):\n    print('a line', flush=True)\n    1 / 0\n";
    let setup = Setup::inline(Language::Python, "model", script);
    let service = setup.start();
    service.post("/output", &setup.body(json!({}))).expect_problem(500, "script_error");
    let complete = || Some(service.log()).filter(|lines| lines.iter().any(|line| line.contains("Traceback")));
    for line in eventually("the traceback is logged", PATIENCE, complete) {
        let read = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let LogLine { timestamp, level, message, target } = read;
        assert!(timestamp.ends_with('Z') && !level.is_empty() && !message.is_empty() && !target.is_empty(), "{line}");
    }
}

/// The value of a metric, whatever its labels.
fn metric(service: &Service, name: &str) -> Option<f64> {
    let metrics = service.get("/metrics");
    let lines = metrics.text().lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values: Vec<f64> = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[test]
fn metrics_tell_what_there_is_to_know() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--name", "gait"]);
    let service = setup.start();
    service.output(&setup.body(json!({})));
    service.done("/input", &setup.body(json!({})));
    service.get("/nowhere");
    let metrics = service.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("dunnage_") && name.contains("service=\"gait\""), "{line}");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
    }
    let expected = [
        ("dunnage_http_requests_total", 1.0),
        ("dunnage_http_request_duration_seconds_count", 1.0),
        ("dunnage_output_batch_size_count", 1.0),
        ("dunnage_jobs_finished_total", 1.0),
        ("dunnage_job_retries_total", 0.0),
        ("dunnage_jobs_queued", 0.0),
        ("dunnage_jobs_running", 0.0),
        ("dunnage_jobs_oldest_queued_seconds", 0.0),
        ("dunnage_workers_ready", 1.0),
        ("dunnage_workers_wanted", 1.0),
        ("dunnage_workers_lost_total", 0.0),
        ("dunnage_outputs_queued", 0.0),
        ("dunnage_active_version", 0.0),
        ("dunnage_event_streams", 0.0),
    ];
    for (name, at_least) in expected {
        assert!(metric(&service, name).is_some_and(|value| value >= at_least), "{name} in\n{}", metrics.text());
    }
    service.post("/output", &setup.body(json!({"case": "abort"}))).expect_problem(502, "worker_crashed");
    eventually("the loss is counted", PATIENCE, || (metric(&service, "dunnage_workers_lost_total") == Some(1.0)).then_some(()));
    assert!(service.get("/metrics").text().contains("dunnage_workers_lost_total{reason=\"abort\",service=\"gait\"} 1"));
}

#[test]
fn the_backlog_can_be_measured() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let running = service.submit("/input", &setup.body(json!({"case": "wait"})));
    service.wait_for(&running, "it runs", |status| status["progress"]["message"] == "waiting");
    for _ in 0..3 {
        service.submit("/input", &setup.body(json!({})));
    }
    assert_eq!((metric(&service, "dunnage_jobs_queued"), metric(&service, "dunnage_jobs_running")), (Some(3.0), Some(1.0)));
    eventually("they age", PATIENCE, || metric(&service, "dunnage_jobs_oldest_queued_seconds").filter(|age| *age > 0.05));
}

#[test]
fn the_interface_is_described_for_machines() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let document = service.get("/openapi.json").expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
    let described: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "/train",
        "/input",
        "/output",
        "/status",
        "/jobs",
        "/jobs/{id}",
        "/jobs/{id}/logs",
        "/jobs/{id}/events",
        "/models",
        "/models/{version}/activate",
        "/healthz/live",
        "/healthz/ready",
        "/healthz/startup",
        "/metrics",
    ];
    expected.sort_unstable();
    assert_eq!(described.iter().filter(|path| **path != "/openapi.json").copied().collect::<Vec<_>>(), expected);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mentions = document.to_string();
    let names = mentions
        .match_indices("#/components/schemas/")
        .map(|(at, prefix)| mentions[at + prefix.len()..].split('"').next().unwrap());
    for name in names {
        assert!(schemas.contains_key(name), "`{name}` is referred to and not described");
    }
}

#[test]
fn an_address_for_others_is_refused_unless_it_is_meant() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--host", "0.0.0.0"]);
    let (status, said) = setup.refused();
    assert!(!status.success() && said.contains("--allow-anonymous"), "{said}");
    let setup = setup.flags(&["--allow-anonymous"]);
    assert_eq!(setup.start().output(&setup.body(json!({}))), [6.0]);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let (status, said) = Setup::new(Language::Lua, "calls").port(service.address().port()).refused();
    assert!(!status.success() && said.contains(&service.address().to_string()) && said.contains("--port"), "{said}");
}

#[test]
fn a_script_or_runtime_that_is_not_there_is_told() {
    let setup = Setup::new(Language::Lua, "calls");
    std::fs::remove_file(setup.script()).unwrap();
    let (status, said) = setup.refused();
    assert!(!status.success() && said.contains("calls.lua"), "{said}");
    let (status, said) = Setup::new(Language::Lua, "calls").flags(&["--runtime", "cobol"]).refused();
    assert!(!status.success() && said.contains("dunnage-cobol"), "{said}");
}

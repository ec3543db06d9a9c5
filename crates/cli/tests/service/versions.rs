//! From training to serving: versions are published, swapped, rolled back and kept.

use std::sync::atomic::{AtomicBool, Ordering};

use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, vector};
use dunnage_testing::setup::{Setup, script};
use serde_json::{Value, json};

in_both_languages!(
    a_trained_version_serves_as_soon_as_its_job_is_done,
    versions_are_swapped_under_load_and_no_request_fails,
    a_version_that_cannot_be_loaded_leaves_the_old_one_at_work,
    a_version_that_fails_its_self_test_leaves_the_old_one_at_work,
    an_earlier_version_is_activated_by_one_call,
);

fn train(setup: &Setup, service: &Service, value: Value) -> Value {
    service.done("/train", &setup.body(json!({"value": value})))
}

/// The value and the version that `/output` answers with; fails unless all of the answer is of one piece.
#[track_caller]
fn served(setup: &Setup, service: &Service) -> (f64, String) {
    let answered = service.post("/output", &setup.body(json!({})));
    let vector = vector(&answered);
    assert!(vector.len() == 500 && vector.iter().all(|value| *value == vector[0]), "{vector:?}");
    (vector[0], answered.header("model-version").unwrap().to_owned())
}

fn a_trained_version_serves_as_soon_as_its_job_is_done(language: Language) {
    let setup = Setup::new(language, "versions");
    let first = setup.start();
    assert_eq!(served(&setup, &first), (0.0, "none".to_owned()));
    for version in 1..=3_u32 {
        let status = train(&setup, &first, json!(version * 10));
        assert_eq!((&status["version"], &status["result"]), (&json!(version), &json!({"value": version * 10})));
        assert_eq!(served(&setup, &first), (f64::from(version) * 10.0, version.to_string()));
    }
    let models = first.get("/models").expect(200);
    assert_eq!((&models["active"], &models["serving"], &models["service"]), (&json!(3), &json!(3), &json!("versions")));
    let versions: Vec<_> =
        models["versions"].as_array().unwrap().iter().map(|model| (&model["version"], &model["active"], &model["state"])).collect();
    let (yes, no, ready) = (json!(true), json!(false), json!("ready"));
    assert_eq!(versions, [(&json!(3), &yes, &ready), (&json!(2), &no, &ready), (&json!(1), &no, &ready)]);
    drop(first);
    let second = setup.start();
    assert_eq!(served(&setup, &second), (30.0, "3".to_owned()), "versions survive a kill");
    assert_eq!(second.terminate().0.code(), Some(0));
    assert_eq!(served(&setup, &setup.start()), (30.0, "3".to_owned()), "and a restart");
}

fn versions_are_swapped_under_load_and_no_request_fails(language: Language) {
    let setup = Setup::new(language, "versions").flags(&["--workers", "2"]);
    let service = setup.start();
    train(&setup, &service, json!(1));
    let over = AtomicBool::new(false);
    let ask = || {
        let mut seen = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let (value, version) = served(&setup, &service);
            assert_eq!(value.to_string(), version, "an answer belongs to the version it names");
            seen.push(value);
        }
        seen
    };
    let all_seen: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        for value in 2..=4_u32 {
            train(&setup, &service, json!(value));
            assert_eq!(served(&setup, &service).0, f64::from(value));
        }
        over.store(true, Ordering::SeqCst);
        threads.into_iter().map(|thread| thread.join().expect("no request failed")).collect()
    });
    for seen in all_seen {
        assert!(seen.is_sorted() && !seen.is_empty(), "old, then new, and never back: {seen:?}");
    }
}

fn a_version_that_cannot_be_loaded_leaves_the_old_one_at_work(language: Language) {
    let setup = Setup::new(language, "versions");
    let service = setup.start();
    train(&setup, &service, json!(1));
    let job = service.submit("/train", &setup.body(json!({"value": "broken"})));
    let status = service.ended(&job);
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!("version_unusable")), "{status}");
    assert!(status["error"]["message"].as_str().unwrap().contains("these weights are broken"), "{status}");
    assert_eq!(served(&setup, &service), (1.0, "1".to_owned()));
    let models = service.get("/models").expect(200);
    assert_eq!((&models["active"], &models["versions"][0]["state"]), (&json!(1), &json!("bad")), "{models}");
    service.send(&Request::new("POST", "/models/2/activate")).expect_problem(409, "version_bad");
    train(&setup, &service, json!(3));
    assert_eq!(served(&setup, &service), (3.0, "3".to_owned()));
}

fn a_version_that_fails_its_self_test_leaves_the_old_one_at_work(language: Language) {
    let setup = Setup::new(language, "versions");
    let service = setup.start();
    train(&setup, &service, json!(1));
    let job = service.submit("/train", &setup.body(json!({"value": -5})));
    let status = service.ended(&job);
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!("version_unusable")), "{status}");
    let message = status["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("version 2 cannot serve: the script cannot be loaded: `self_test` failed: "), "{message}");
    assert!(message.ends_with("a walk scored -5"), "{message}");
    assert_eq!(served(&setup, &service), (1.0, "1".to_owned()));
    let models = service.get("/models").expect(200);
    let bad = &models["versions"][0];
    assert_eq!((&models["active"], &bad["version"], &bad["state"]), (&json!(1), &json!(2), &json!("bad")), "{models}");
    assert!(message.ends_with(bad["error"].as_str().unwrap()), "{models}");
    service.send(&Request::new("POST", "/models/2/activate")).expect_problem(409, "version_bad");
    assert_eq!(train(&setup, &service, json!(3))["version"], 3);
    assert_eq!(served(&setup, &service), (3.0, "3".to_owned()));
}

fn an_earlier_version_is_activated_by_one_call(language: Language) {
    let setup = Setup::new(language, "versions");
    let service = setup.start();
    train(&setup, &service, json!(10));
    train(&setup, &service, json!(20));
    let activate = |version: &str| service.send(&Request::new("POST", &format!("/models/{version}/activate")));
    assert_eq!(activate("1").expect(200), json!({"version": 1, "active": true}));
    assert_eq!(served(&setup, &service), (10.0, "1".to_owned()));
    activate("7").expect_problem(404, "version_unknown");
    assert_eq!(activate("2").expect(200)["version"], 2);
    assert_eq!(served(&setup, &service), (20.0, "2".to_owned()));
    activate("1").expect(200);
    drop(service);
    assert_eq!(served(&setup, &setup.start()), (10.0, "1".to_owned()), "also after a restart");
}

#[test]
fn training_that_fails_publishes_nothing_and_leaves_no_folder() {
    let script = "def train(files, ctx):\n    (ctx.new_artifact() / 'half').write_text('x')\n    raise ValueError('no')\n\ndef output(files, ctx):\n    return [ctx.artifact is None]\n";
    let setup = Setup::inline(Language::Python, "fails", script);
    let service = setup.start();
    let job = service.submit("/train", &setup.body(json!({})));
    assert_eq!(service.ended(&job)["error"]["code"], "script_error");
    assert_eq!(service.get("/models").expect(200)["versions"], json!([]));
    assert_eq!(service.output(&setup.body(json!({}))), [1.0]);
    let artifacts = setup.data("artifacts");
    let left: Vec<_> = std::fs::read_dir(&artifacts).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pending"]);
    let of_this_life = std::fs::read_dir(artifacts.join("pending")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = of_this_life.filter(|path| path.is_dir()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    assert_eq!(std::fs::read_dir(&folders[0]).unwrap().count(), 0);
}

#[test]
fn training_sees_the_version_before_it() {
    let script = "def train(files, ctx):\n    before = 0 if ctx.artifact is None else int((ctx.artifact / 'n').read_text())\n    (ctx.new_artifact() / 'n').write_text(str(before + 1))\n    return before\n";
    let setup = Setup::inline(Language::Python, "onward", script);
    let service = setup.start();
    let results: Vec<_> = (0..3).map(|_| service.done("/train", &setup.body(json!({})))["result"].clone()).collect();
    assert_eq!(results, [0, 1, 2]);
}

#[test]
fn another_service_in_the_same_folder_keeps_its_hands_off() {
    let mine = Setup::new(Language::Python, "versions");
    let service = mine.start();
    train(&mine, &service, json!(7));
    service.terminate();
    let other =
        mine.with_script(Language::Lua, "return { output = function() return {1} end }").environment("DUNNAGE_NAME", "other");
    other.start().terminate();
    let mine = other.with_script(Language::Python, &script(Language::Python, "versions")).environment("DUNNAGE_NAME", "versions");
    assert_eq!(served(&mine, &mine.start()), (7.0, "1".to_owned()));
}

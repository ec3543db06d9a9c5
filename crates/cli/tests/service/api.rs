//! The interface that clients were promised, to the byte where it was promised to the byte.

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::vector;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

in_both_languages!(
    the_four_calls_answer_what_was_promised,
    what_the_first_clients_send_is_understood,
    params_reach_the_script_as_they_were_sent,
    files_may_come_along_with_the_request,
    numbers_are_written_so_that_they_read_back_the_same,
);

fn the_four_calls_answer_what_was_promised(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let body = json!({"Files": [setup.file("a", "x"), setup.file("b", "yz")]});
    for call in ["/train", "/input"] {
        let submitted = service.post(call, &body);
        let job = submitted.expect(202)["jobId"].as_str().unwrap().to_owned();
        assert_eq!(submitted.text(), format!("{{\"jobId\":\"{job}\"}}"));
        assert_eq!(submitted.header("location"), Some(format!("/status?jobId={job}").as_str()));
        assert_eq!(submitted.header("content-type"), Some("application/json"));
        let first = service.status(&job);
        assert!(["running", "done"].contains(&first["status"].as_str().unwrap()), "{first}");
        let last = service.ended(&job);
        assert_eq!((&last["status"], &last["jobId"], &last["kind"]), (&json!("done"), &json!(job), &json!(call[1..])));
        assert_eq!(last["result"]["contents"], json!(["x", "yz"]));
    }
    let answered = service.post("/output", &body);
    // Lua knows one kind of number only.
    let expected = if language == Language::Lua { "{\"outputVector\":[1.0,2.0]}" } else { "{\"outputVector\":[1,2]}" };
    assert_eq!((answered.status, answered.text()), (200, expected));
    assert_eq!(answered.header("content-type"), Some("application/json"));
    assert_eq!(answered.header("model-version"), Some("none"));
    let timing = answered.header("server-timing").unwrap();
    let stages: Vec<_> = timing.split(", ").map(|stage| stage.split_once(";dur=").unwrap()).collect();
    assert_eq!(stages.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["body", "files", "model"]);
    assert!(stages.iter().all(|(_, duration)| duration.parse::<f64>().unwrap() >= 0.0), "{timing}");
}

fn what_the_first_clients_send_is_understood(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let body = json!({"files": [setup.file("a", "x")]});
    assert_eq!(service.output(&body), [1.0]);
    let job = service.submit("/input", &body);
    let status = service.get(&format!("/status?taskID={job}")).expect(200);
    assert_eq!(status["jobId"], json!(job));
}

fn params_reach_the_script_as_they_were_sent(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let params = json!({"flag": true, "nothing": null, "text": "ä\u{0}\n🌊", "whole": 9_007_199_254_740_991_i64, "half": 0.5,
        "list": [1, [2, {}]], "deep": {"a": {"b": {"c": [null]}}}});
    let status = service.done("/input", &setup.body(params.clone()));
    assert_eq!(status["result"]["params"], params);
    let job = service.get(&format!("/jobs/{}", status["jobId"].as_str().unwrap())).expect(200);
    assert_eq!(job["params"], params);
    assert_eq!(job["files"], setup.body(Value::Null)["Files"]);
}

fn files_may_come_along_with_the_request(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let files = [("walk.csv", "1,2"), ("../../etc/b c.csv", "")];
    for call in ["/train", "/input"] {
        let submitted = service.send(&Request::new("POST", call).form(&files, &[("Key", "k")]));
        let status = service.ended(submitted.expect(202)["jobId"].as_str().unwrap());
        assert_eq!(status["state"], "done", "{status}");
        assert_eq!(status["result"]["contents"], json!(["1,2", ""]));
        assert_eq!(status["key"], "k");
    }
    let form = Request::new("POST", "/output").form(&files, &[("Params", "{\"case\": \"contents\"}")]);
    assert_eq!(vector(&service.send(&form)), [49.0, 44.0, 50.0]);
    let uploads = setup.data("uploads");
    let left = || std::fs::read_dir(&uploads).unwrap().count();
    eventually("uploads are removed", std::time::Duration::from_secs(5), || (left() == 0).then_some(()));
}

fn numbers_are_written_so_that_they_read_back_the_same(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let values = json!([0.1, -0.0, 1e-300, 1.797_693_134_862_315_7e308, 3, 0.30000000000000004]);
    let answered = service.post("/output", &setup.body(json!({"case": "values", "values": values})));
    let found = vector(&answered);
    let expected: Vec<f64> = serde_json::from_value(values).unwrap();
    assert_eq!(
        found.iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
        expected.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    );
    let floats = service.post("/output", &setup.body(json!({"case": "floats", "values": [0.1, 0.5]})));
    assert_eq!(floats.text(), "{\"outputVector\":[0.1,0.5]}");
}

#[test]
fn every_answer_carries_the_id_of_its_request() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let id_of = |request: &Request| service.send(request).header("x-request-id").unwrap().to_owned();
    for target in ["/healthz/live", "/nowhere", "/status?jobId=x"] {
        assert_eq!(id_of(&Request::new("GET", target).header("X-Request-Id", "walk-7")), "walk-7");
        let (first, second) = (id_of(&Request::new("GET", target)), id_of(&Request::new("GET", target)));
        assert!(first.len() == 36 && first != second, "{first}, {second}");
    }
    let long = "x".repeat(65);
    for useless in ["", "two words", "ä", &long] {
        assert_ne!(id_of(&Request::new("GET", "/healthz/live").header("X-Request-Id", useless)), useless);
    }
}

#[test]
fn every_path_says_which_methods_it_takes() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let job = service.submit("/input", &setup.body(json!({})));
    let paths = [
        ("/train".to_owned(), "POST"),
        ("/input".to_owned(), "POST"),
        ("/output".to_owned(), "POST"),
        (format!("/status?jobId={job}"), "GET, HEAD"),
        ("/jobs".to_owned(), "GET, HEAD"),
        (format!("/jobs/{job}"), "GET, HEAD, DELETE"),
        (format!("/jobs/{job}/logs"), "GET, HEAD"),
        ("/models".to_owned(), "GET, HEAD"),
        ("/models/1/activate".to_owned(), "POST"),
        ("/healthz/live".to_owned(), "GET, HEAD"),
        ("/healthz/ready".to_owned(), "GET, HEAD"),
        ("/healthz/startup".to_owned(), "GET, HEAD"),
        ("/metrics".to_owned(), "GET, HEAD"),
        ("/openapi.json".to_owned(), "GET, HEAD"),
    ];
    for (path, allowed) in paths {
        let options = service.send(&Request::new("OPTIONS", &path));
        assert_eq!((options.status, options.header("allow")), (204, Some(allowed)), "{path}");
        let refused = service.send(&Request::new("PATCH", &path));
        refused.expect_problem(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), Some(allowed), "{path}");
        if allowed.starts_with("GET") {
            let (got, head) = (service.get(&path), service.send(&Request::new("HEAD", &path)));
            assert_eq!((head.status, head.text()), (200, ""), "{path}");
            assert_eq!((got.status, head.header("content-type")), (200, got.header("content-type")), "{path}");
        } else {
            service.get(&path).expect_problem(405, "method_not_allowed");
        }
    }
    for path in ["/", "/nowhere", "/jobs/", "/output/", "/OUTPUT", "//output", "/..%2foutput"] {
        service.get(path).expect_problem(404, "unknown_path");
    }
}

#[test]
fn jobs_are_listed_newest_first_and_by_the_page() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let mut jobs: Vec<_> = (0..5).map(|_| service.submit("/input", &setup.body(json!({})))).collect();
    jobs.reverse();
    jobs.iter().for_each(|job| drop(service.ended(job)));
    let ids = |page: &Value| {
        page["jobs"].as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = service.get("/jobs?limit=3&state=done&kind=input").expect(200);
    assert_eq!(ids(&first), jobs[..3]);
    let second = service.get(&format!("/jobs?limit=3&before={}", first["next"])).expect(200);
    assert_eq!((ids(&second).as_slice(), &second["next"]), (&jobs[3..], &Value::Null));
    assert_eq!(ids(&service.get("/jobs?kind=train").expect(200)), [""; 0]);
    for query in ["limit=0", "limit=1001", "limit=x", "state=lost", "kind=output", "colour=red"] {
        service.get(&format!("/jobs?{query}")).expect_problem(400, "query_invalid");
    }
}

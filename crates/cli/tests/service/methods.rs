//! Methods and paths that are not as they should be.

use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::raw::Raw;
use dunnage_testing::setup::Setup;
use serde_json::json;

const UNKNOWN_JOB: &str = "8c8b8a53-5c3c-4a2c-9d0a-4d1f0e6e7a01";

#[test]
fn methods_that_a_path_does_not_take_are_refused_with_those_it_does() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    for method in ["TRACE", "PUT", "PATCH", "BREW", "get", "Post", "PROPFIND", "M-SEARCH"] {
        for (path, allowed) in [("/output", "POST"), ("/jobs", "GET, HEAD"), ("/healthz/live", "GET, HEAD")] {
            let refused = service.send(&Request::new(method, path).header("Max-Forwards", "0").header("Cookie", "secret=1"));
            let detail = refused.expect_problem(405, "method_not_allowed");
            assert_eq!((refused.header("allow"), detail.contains("secret")), (Some(allowed), false), "{method} {path}");
        }
        service.send(&Request::new(method, "/nowhere")).expect_problem(404, "unknown_path");
    }
    let tunnel = "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answers = Raw::connect(&service).sent(tunnel).answers(std::time::Duration::from_secs(20));
    answers[0].expect_problem(405, "method_not_allowed");
    assert_eq!((answers.len(), answers[0].header("connection")), (1, Some("close")));
    let whole = service.send(&Request::new("OPTIONS", "*"));
    assert_eq!((whole.status, whole.header("allow")), (204, Some("GET, HEAD, POST, DELETE, OPTIONS")));
    service.send(&Request::new("GET", "*")).expect_problem(404, "unknown_path");
}

#[test]
fn a_path_has_one_spelling() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let body = setup.body(json!({}));
    for path in
        ["/input/", "//input", "/INPUT", "/input//", "/./input", "/x/../input", "/input%00", "/input;x", "/input%2f", "/%2finput"]
    {
        service.post(path, &body).expect_problem(404, "unknown_path");
    }
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
    let job = service.submit("/inpu%74?ignored=1&ignored=2#part", &body);
    assert_eq!(service.get(&format!("/status?jobId={job}")).expect(200)["jobId"], json!(job));
    for query in [format!("jobId={job}&jobId={UNKNOWN_JOB}"), format!("jobId={UNKNOWN_JOB}&jobId={job}"), "jobId=".repeat(2)] {
        let refused = service.get(&format!("/status?{query}"));
        assert!((400..500).contains(&refused.status), "{refused}");
    }
}

#[test]
fn ids_that_are_none_are_told_apart_from_unknown_ones_and_from_nothing_else() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let long = "a".repeat(6000);
    for id in ["7", "", "' OR 1=1 --", "..%2f..%2fetc", "%00", "8c8b8a53", "*", &long] {
        let id = id.replace(' ', "%20");
        service.get(&format!("/status?jobId={id}")).expect_problem(400, "job_id_malformed");
    }
    let gone = service.get(&format!("/status?jobId={UNKNOWN_JOB}"));
    let other = service.get("/status?jobId=00000000-0000-4000-8000-000000000000");
    let told = |detail: String, id: &str| detail.replace(id, "ID");
    let details = [
        told(gone.expect_problem(404, "job_unknown"), UNKNOWN_JOB),
        told(other.expect_problem(404, "job_unknown"), "00000000-0000-4000-8000-000000000000"),
    ];
    assert_eq!(details[0], details[1], "whoever guesses learns nothing");
}

#[test]
fn ids_of_jobs_cannot_be_guessed() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let ids: Vec<_> = (0..40).map(|_| service.submit("/input", &setup.body(json!({})))).collect();
    let bits = |id: &String| u128::from_str_radix(&id.replace('-', ""), 16).unwrap();
    let (set, clear) = ids.iter().map(bits).fold((0, 0), |(set, clear), id| (set | id, clear | !id));
    // Forty random bits are all the same once in half a billion times; six of an id say that it is random.
    assert!((set & clear).count_ones() >= 121, "{ids:?}");
}

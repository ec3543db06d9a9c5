//! Requests that are wrong, and what they are told.

use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::json;

const UNKNOWN_JOB: &str = "8c8b8a53-5c3c-4a2c-9d0a-4d1f0e6e7a01";
const CALLS: [&str; 3] = ["/train", "/input", "/output"];

fn post(call: &str) -> Request {
    Request::new("POST", call)
}

#[track_caller]
fn each_call_refuses(service: &Service, status: u16, code: &str, wrong: impl Fn(Request) -> Request) {
    for call in CALLS {
        service.send(&wrong(post(call))).expect_problem(status, code);
    }
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]), "a refused request has made a job");
}

#[test]
fn bodies_that_cannot_be_read_are_refused() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let malformed = [
        "",
        " ",
        "{",
        "{\"Files\": [\"file:///x\"]} trailing",
        "\u{feff}{\"Files\": []}",
        "{\"Files\": [\"file:///x\"], \"Params\": {\"a\": NaN}}",
    ];
    for body in malformed {
        each_call_refuses(&service, 400, "body_malformed", |request| request.body("application/json", body));
    }
    each_call_refuses(&service, 400, "body_malformed", |request| {
        request.body("application/json", b"{\"Files\": [\"\xff\"]}".to_vec())
    });
    let deep = format!("{{\"Files\": [\"file:///x\"], \"Params\": {{\"a\": {}}}}}", "[".repeat(100_000));
    each_call_refuses(&service, 400, "body_malformed", |request| request.body("application/json", deep.as_str()));
    for body in [
        "null",
        "[]",
        "\"Files\"",
        "{\"Files\": \"file:///x\"}",
        "{\"Files\": [1]}",
        "{\"Files\": [\"file:///x\"], \"Params\": 1}",
        "{\"Files\": [\"file:///x\"], \"Extra\": 1}",
    ] {
        each_call_refuses(&service, 422, "request_invalid", |request| request.body("application/json", body));
    }
    for body in ["{}", "{\"Files\": []}", "{\"Params\": {}}"] {
        each_call_refuses(&service, 422, "files_missing", |request| request.body("application/json", body));
    }
}

#[test]
fn bodies_of_another_type_are_refused() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let body = setup.body(json!({})).to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        each_call_refuses(&service, 415, "content_type_unsupported", |request| request.body(content_type, body.as_str()));
    }
    each_call_refuses(&service, 415, "content_type_unsupported", |request| request);
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    each_call_refuses(&service, 415, "content_type_unsupported", |request| {
        request.header("Content-Encoding", "gzip").body("application/json", gzip)
    });
    for content_type in ["application/json; charset=utf-8", "application/json ;x=y"] {
        service.send(&post("/output").body(content_type, body.as_str())).expect(200);
    }
}

#[test]
fn forms_that_make_no_sense_are_refused() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    each_call_refuses(&service, 422, "files_missing", |request| request.form(&[], &[("Params", "{}")]));
    each_call_refuses(&service, 422, "request_invalid", |request| request.form(&[("a", "x")], &[("Params", "[]")]));
    each_call_refuses(&service, 422, "request_invalid", |request| request.form(&[("a", "x")], &[("Files", "file:///x")]));
    for name in ["Params", "Key"] {
        let twice = [(name, "{}"), (name, "{}")];
        each_call_refuses(&service, 400, "body_malformed", |request| request.form(&[("a", "x")], &twice));
    }
    each_call_refuses(&service, 400, "body_malformed", |request| request.body("multipart/form-data; boundary=cut", "no form"));
    each_call_refuses(&service, 400, "body_malformed", |request| request.body("multipart/form-data", "--cut--"));
    let cut_off = "--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nhalf";
    each_call_refuses(&service, 400, "body_malformed", |request| request.body("multipart/form-data; boundary=cut", cut_off));
    assert_eq!(std::fs::read_dir(setup.data("uploads")).unwrap().count(), 0);
}

#[test]
fn bodies_beyond_the_limits_are_refused() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--max-body", "1KiB", "--max-upload", "2KiB", "--max-files", "2"]);
    let service = setup.start();
    let long = format!("{{\"Files\": [\"file:///{}\"]}}", "x".repeat(1024));
    each_call_refuses(&service, 413, "body_too_large", |request| request.body("application/json", long.as_str()));
    let announced = |request: Request| request.header("Content-Type", "application/json").header("Content-Length", "99999999999");
    each_call_refuses(&service, 413, "body_too_large", announced);
    let chunk = format!("{:x}\r\n{long}\r\n", long.len());
    let chunked = |request: Request| {
        request.header("Content-Type", "application/json").header("Transfer-Encoding", "chunked").raw(chunk.as_str())
    };
    each_call_refuses(&service, 413, "body_too_large", chunked);
    let large = "x".repeat(2048);
    each_call_refuses(&service, 413, "body_too_large", |request| request.form(&[("a", large.as_str())], &[]));
    each_call_refuses(&service, 422, "too_many_files", |request| request.form(&[("a", ""), ("b", ""), ("c", "")], &[]));
    let address = setup.file("a", "x");
    each_call_refuses(&service, 422, "too_many_files", |request| request.json(&json!({"Files": [address, address, address]})));
    assert_eq!(service.output(&json!({"Files": [address, address]})), [1.0, 1.0]);
    assert_eq!(std::fs::read_dir(setup.data("uploads")).unwrap().count(), 0);
}

#[test]
fn output_refuses_files_it_cannot_have() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let root = setup.files_root();
    std::fs::write(setup.folder().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(setup.folder().join("secret"), root.join("link")).unwrap();
    std::fs::create_dir(root.join("folder")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    let below = |path: &str| format!("file://{}/{path}", root.display());
    let cases = [
        (below("missing"), "file_not_found"),
        (below("folder"), "file_not_readable"),
        (format!("file://{}", root.display()), "file_not_readable"),
        (below("link"), "file_outside_root"),
        (below("up/secret"), "file_outside_root"),
        (format!("file://{}/secret", setup.folder().display()), "file_outside_root"),
        (format!("file://{}-sibling/a", root.display()), "file_outside_root"),
        ("file:///etc/passwd".to_owned(), "file_outside_root"),
        (below("../secret"), "file_address_invalid"),
        (below("%2e%2e/secret"), "file_address_invalid"),
        (below("a%00b"), "file_address_invalid"),
        ("file://localhost/etc/passwd".to_owned(), "file_address_invalid"),
        ("walk.csv".to_owned(), "file_address_invalid"),
        ("/etc/passwd".to_owned(), "file_address_invalid"),
        (String::new(), "file_address_invalid"),
        ("http://127.0.0.1/latest/meta-data".to_owned(), "file_address_invalid"),
        ("https://example.com/walk.csv".to_owned(), "file_address_invalid"),
        (format!("upload:{UNKNOWN_JOB}/0-x"), "file_address_invalid"),
        ("s3://b/key".to_owned(), "file_address_invalid"),
    ];
    for (address, code) in cases {
        let refused = service.post("/output", &json!({"Files": [setup.file("fine", "x"), address]}));
        let detail = refused.expect_problem(422, code);
        assert!(detail.contains(&address), "the detail names the file: {detail}");
    }
}

#[test]
fn a_job_whose_file_is_missing_ends_in_error_with_the_same_code() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let missing = format!("file://{}/missing", setup.files_root().display());
    for call in ["/train", "/input"] {
        let job = service.submit(call, &json!({"Files": [missing]}));
        let status = service.ended(&job);
        assert_eq!((&status["status"], &status["error"]["code"]), (&json!("error"), &json!("file_not_found")), "{status}");
        assert!(status["error"]["message"].as_str().unwrap().contains(&missing), "{status}");
    }
}

#[test]
fn jobs_and_versions_that_do_not_exist_are_not_found() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    for target in [format!("/status?jobId={UNKNOWN_JOB}"), format!("/jobs/{UNKNOWN_JOB}"), format!("/jobs/{UNKNOWN_JOB}/logs")] {
        service.get(&target).expect_problem(404, "job_unknown");
    }
    service.send(&Request::new("DELETE", &format!("/jobs/{UNKNOWN_JOB}"))).expect_problem(404, "job_unknown");
    for target in ["/status", "/status?jobId=", "/status?jobId=7", "/status?job=7", "/jobs/7", "/jobs/%ff", "/jobs/7/logs"] {
        service.get(target).expect_problem(400, "job_id_malformed");
    }
    service.send(&Request::new("DELETE", "/jobs/7")).expect_problem(400, "job_id_malformed");
    for version in ["1", "0", "-1", "x", "99999999999"] {
        service.send(&post(&format!("/models/{version}/activate"))).expect_problem(404, "version_unknown");
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let own = format!("http://{}", service.address());
    let foreign = ["http://evil.example", "https://evil.example:8080", "null", "http://127.0.0.1.evil.example"];
    let cross_site = |request: Request| request.header("Sec-Fetch-Site", "cross-site");
    for origin in foreign {
        each_call_refuses(&service, 403, "host_refused", |request| request.json(&setup.body(json!({}))).header("Origin", origin));
        service.send(&Request::new("GET", "/jobs").header("Origin", origin)).expect_problem(403, "host_refused");
    }
    each_call_refuses(&service, 403, "host_refused", |request| cross_site(request.json(&setup.body(json!({})))));
    service.send(&cross_site(Request::new("GET", "/metrics"))).expect_problem(403, "host_refused");
    let request = post("/output").json(&setup.body(json!({}))).header("Origin", &own).header("Sec-Fetch-Site", "same-origin");
    service.send(&request).expect(200);
}

#[test]
fn a_page_whose_name_leads_here_does_not_pass_for_one_of_ours() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--allowed-host", "models.example"]);
    let service = setup.start();
    let called = |name: &str| service.send(&Request::new("GET", "/jobs").header("Host", name));
    for name in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.168.0.1"] {
        called(name).expect_problem(403, "host_refused");
    }
    for name in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "models.example", "Models.Example:80"] {
        called(name).expect(200);
    }
}

#[test]
fn params_nested_as_deeply_as_they_may_harm_no_worker() {
    for language in [Language::Python, Language::Lua] {
        let setup = Setup::new(language, "calls");
        let service = setup.start();
        let workers = service.workers();
        let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({"a": inner}));
        service.post("/output", &setup.body(nested(100))).expect(200);
        service.post("/output", &setup.body(nested(101))).expect_problem(400, "body_malformed");
        let form = |depth| post("/output").form(&[("a", "x")], &[("Params", &nested(depth).to_string())]);
        service.send(&form(100)).expect(200);
        service.send(&form(101)).expect_problem(400, "body_malformed");
        assert_eq!(service.workers(), workers, "none was lost");
    }
}

#[test]
fn key_and_idempotency_key_must_be_usable() {
    let setup = Setup::new(Language::Python, "calls");
    let service = setup.start();
    let with_key = |key: &str| json!({"Files": [setup.file("a", "x")], "Key": key});
    let long = "k".repeat(256);
    for key in ["", "ä", "a\nb", &long] {
        for call in ["/train", "/input"] {
            service.post(call, &with_key(key)).expect_problem(422, "request_invalid");
        }
    }
    service.post("/output", &with_key("k")).expect_problem(422, "request_invalid");
    for key in ["", &long] {
        let request = post("/input").json(&setup.body(json!({}))).header("Idempotency-Key", key);
        service.send(&request).expect_problem(422, "request_invalid");
    }
    let twice = post("/input").json(&setup.body(json!({}))).header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    service.send(&twice).expect_problem(422, "request_invalid");
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
}

#[test]
fn without_a_files_root_no_local_file_is_served() {
    let setup = Setup::new(Language::Python, "calls").without_files_root();
    let service = setup.start();
    service.post("/output", &setup.body(json!({}))).expect_problem(422, "files_root_unset");
}

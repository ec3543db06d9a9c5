//! Secrets that are easily recognised, and everything a service says.
//!
//! Every path is driven with every token, and into every error that can be had from outside. Then whatever came out is searched: for
//! the secrets everywhere, and for the inside of the service in what those are told who must not see it.

use std::path::Path;
use std::time::Duration;

use dunnage_testing::census::{self, eventually};
use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::json;

use crate::access::{ADMIN, BEYOND, INFER, METRICS, TRAIN};
use crate::listener::Listener;

in_both_languages!(no_secret_comes_out_and_strangers_see_no_inside);

const PATIENCE: Duration = Duration::from_secs(30);
const JOB: &str = "8c8b8a53-5c3c-4a2c-9d0a-4d1f0e6e7a01";
/// The base64 of 24 bytes, as a callback's secret is written.
const CALLBACK: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktMDEy";
/// What only the environment holds.
const ENVIRONMENT: [(&str, &str); 8] = [
    ("DUNNAGE_CALLBACK_SECRET", CALLBACK),
    ("DUNNAGE_TOKEN", "canary-client-token"),
    ("AWS_ACCESS_KEY_ID", "AKIACANARYCANARY0001"),
    ("AWS_SECRET_ACCESS_KEY", "canary/aws/secret/access/key"),
    ("AWS_SESSION_TOKEN", "canary-session-token"),
    ("PGPASSWORD", "canary-pg-password"),
    ("PGPASSFILE", "/canary/pgpass"),
    ("DATABASE_URL", "postgres://u:canary-database@127.0.0.1:1/d"),
];

fn secrets() -> Vec<&'static str> {
    let base64 = CALLBACK.trim_start_matches("whsec_");
    let decoded = ["canary-canary-canary-012", base64, INFER, TRAIN, METRICS, ADMIN];
    ENVIRONMENT.map(|(_, value)| value).into_iter().chain(decoded).collect()
}

fn setup(language: Language) -> Setup {
    let setup = ENVIRONMENT.iter().fold(Setup::new(language, "calls"), |setup, (name, value)| setup.environment(name, value));
    let flags = [
        "--host",
        BEYOND,
        "--s3-endpoint",
        "http://127.0.0.1:1",
        "--s3-region",
        "nowhere-1",
        "--max-body",
        "4KiB",
        "--max-upload",
        "8KiB",
        "--max-files",
        "3",
        "--timeout",
        "2s",
    ];
    setup.flags(&flags)
}

/// Who asks.
const CALLERS: [Option<&str>; 6] =
    [None, Some("wrong-0123456789abcdef0123456789abcdef"), Some(INFER), Some(METRICS), Some(TRAIN), Some(ADMIN)];

fn form(call: &str, params: &str) -> Request {
    Request::new("POST", call).form(&[("walk.csv", "1,2,3\n")], &[("Params", params)])
}

/// Requests that go well, badly, and very badly. None of them names a path of the service's own.
fn requests() -> Vec<Request> {
    let cases = ["sizes", "nan", "nested", "nothing", "raise", "leave", "abort", "segfault", "hang", "unheard-of"];
    let outputs = cases.map(|case| form("/output", &json!({"case": case}).to_string()));
    let jobs = ["/train", "/input"]
        .into_iter()
        .flat_map(|call| ["raise", "unfit", "speak"].map(|case| form(call, &json!({"case": case}).to_string())));
    let bodies = [
        "",
        "{",
        "[]",
        "{\"Files\": 1}",
        "{\"Files\": []}",
        "{\"Files\": [\"x\"]}",
        "{\"Files\": [\"file:///nowhere/at/all\"]}",
        "{\"Files\": [\"file:///x\"], \"Callback\": \"http://127.0.0.1/\"}",
    ];
    let wrong =
        bodies.iter().flat_map(|body| ["/train", "/output"].map(|call| Request::new("POST", call).body("application/json", *body)));
    let large = "x".repeat(9000);
    let odd = [
        // Not for a job: it would wait for S3 to come back.
        Request::new("POST", "/output").body("application/json", "{\"Files\": [\"s3://bucket/key\"]}"),
        Request::new("POST", "/output").body("text/plain", "x"),
        Request::new("POST", "/output").body("application/json", large.as_str()),
        Request::new("POST", "/output").form(&[("a", large.as_str())], &[]),
        Request::new("POST", "/output").body("multipart/form-data; boundary=cut", "no form"),
        Request::new("POST", "/input").form(&[("a", "x")], &[("Idempotency-Key", "")]),
        Request::new("GET", "/nowhere").header("Host", "evil.test"),
        Request::new("POST", "/train").header("Origin", "http://evil.test"),
    ];
    let targets = [
        "/status",
        "/status?jobId=7",
        &format!("/status?jobId={JOB}"),
        "/jobs",
        "/jobs?state=x",
        "/jobs?limit=0",
        "/jobs/7",
        &format!("/jobs/{JOB}"),
        &format!("/jobs/{JOB}/logs"),
        &format!("/jobs/{JOB}/logs?after=x"),
        &format!("/jobs/{JOB}/events"),
        "/models",
        "/metrics",
        "/healthz/live",
        "/healthz/ready",
        "/healthz/startup",
        "/openapi.json",
        "/docs",
        "/docs/",
        "/nowhere",
        "/../etc/passwd",
    ]
    .map(|target| Request::new("GET", target));
    let other = [
        ("POST", "/models/7/activate"),
        ("POST", "/models/x/activate"),
        ("DELETE", "/jobs/7"),
        ("PUT", "/output"),
        ("OPTIONS", "/train"),
        ("TRACE", "/jobs"),
    ];
    let other = other.map(|(method, target)| Request::new(method, target));
    outputs.into_iter().chain(jobs).chain(wrong).chain(odd).chain(targets).chain(other).collect()
}

/// Everything in an answer that a client sees.
fn all_of(answer: &Response) -> String {
    answer.to_string()
}

/// Sends every request as `caller`, and returns the answers.
fn drive(service: &Service, caller: Option<&str>) -> Vec<String> {
    let as_caller = |request: Request| caller.iter().fold(request, |request, token| request.token(token));
    let mut answers: Vec<_> = requests().into_iter().map(|request| all_of(&service.send(&as_caller(request)))).collect();
    let jobs = service.send(&as_caller(Request::new("GET", "/jobs")));
    if jobs.status == 200 {
        answers.extend(jobs_of(&jobs).iter().flat_map(|job| told_of(service, job, &as_caller)));
    }
    answers
}

fn jobs_of(listed: &Response) -> Vec<String> {
    let jobs = listed.json()["jobs"].as_array().unwrap().clone();
    jobs.iter().map(|job| job["jobId"].as_str().unwrap().to_owned()).collect()
}

/// What is told of a job once it has ended.
fn told_of(service: &Service, job: &str, as_caller: &impl Fn(Request) -> Request) -> Vec<String> {
    let get = |target: String| service.send(&as_caller(Request::new("GET", &target)));
    eventually("the job ends", PATIENCE, || (get(format!("/jobs/{job}")).json()["status"] != "running").then_some(()));
    let targets = [format!("/status?jobId={job}"), format!("/jobs/{job}"), format!("/jobs/{job}/logs")];
    targets.into_iter().map(|target| all_of(&get(target))).collect()
}

#[track_caller]
fn require_none<'a>(what: &str, said: &str, forbidden: impl IntoIterator<Item = &'a str>) {
    for secret in forbidden {
        assert!(!said.contains(secret), "`{secret}` in {what}: {said}");
    }
}

/// Words that give away how the service is made, and where it lies.
fn inside(setup: &Setup, service: &Service) -> Vec<String> {
    let folder = setup.folder().display().to_string();
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().display().to_string();
    let fixed = [
        "raceback", "File \"", "/calls.", "SELECT ", "INSERT ", "UPDATE ", "sqlite", "panicked", ".rs:", "/proc/", "/usr/",
        ".dunnage", "DUNNAGE_",
    ];
    let pids = service.workers().into_iter().chain([service.pid()]).map(|pid| format!("pid {pid}"));
    fixed.into_iter().map(str::to_owned).chain([folder, program]).chain(pids).collect()
}

fn require_clean_processes(service: &Service) {
    for worker in service.workers() {
        let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap_or_default();
        require_none("a worker's environment", &String::from_utf8_lossy(&environment), secrets());
        require_none("a worker's command line", &census::command_line(worker), secrets());
    }
}

/// What the server, its workers and the script have written.
fn require_clean_folder(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            require_clean_folder(&entry.path());
            continue;
        }
        // A temporary file of the database may be gone by now.
        let contents = std::fs::read(entry.path()).unwrap_or_default();
        require_none(&entry.path().display().to_string(), &String::from_utf8_lossy(&contents), secrets());
    }
}

fn no_secret_comes_out_and_strangers_see_no_inside(language: Language) {
    let tokens = format!("infer {INFER}; train {TRAIN}; metrics {METRICS}; admin {ADMIN}");
    let setup = setup(language).environment("DUNNAGE_TOKENS", &tokens);
    let service = setup.start();
    for caller in CALLERS {
        let sees_the_inside = [Some(TRAIN), Some(ADMIN)].contains(&caller);
        for answer in drive(&service, caller) {
            require_none("an answer", &answer, secrets());
            if !sees_the_inside {
                // The page at /docs is a program of somebody else's, and the description names settings.
                let is_document = answer.contains("swagger") || answer.contains("\"openapi\"");
                let words = inside(&setup, &service);
                require_none("an answer", &answer, words.iter().map(String::as_str).filter(|_| !is_document));
            }
            require_clean_processes(&service);
        }
    }
    let log = service.log().join("\n");
    assert!(log.contains("no such luck"), "the log was read");
    require_none("the log", &log, secrets());
    require_clean_folder(setup.folder());
}

#[test]
fn nobody_known_sees_the_inside_of_a_service_that_is_open_to_all() {
    let setup = setup(Language::Python).flags(&["--allow-anonymous"]);
    let service = setup.start();
    let answers = drive(&service, None);
    assert!(answers.iter().any(|answer| answer.contains("no such luck")), "jobs have failed");
    let events =
        jobs_of(&service.get("/jobs")).iter().map(|job| format!("{:?}", Listener::open(&service, job).rest())).collect::<String>();
    for answer in answers.into_iter().chain([events]) {
        require_none("an answer", &answer, secrets());
        let is_document = answer.contains("swagger") || answer.contains("\"openapi\"");
        let words = inside(&setup, &service);
        require_none("an answer", &answer, words.iter().map(String::as_str).filter(|_| !is_document));
    }
    require_none("the log", &service.log().join("\n"), secrets());
}

#[test]
fn a_start_that_fails_tells_no_secret() {
    let databases = [
        "postgres://user:canary-database@127.0.0.1:1/d",
        "postgres://user:canary-database@127.0.0.1:1/d?sslmode=canary",
        "postgres://user:canary-database@[::1/d",
        "canary-database",
        "mysql://user:canary-database@127.0.0.1/d",
    ];
    for url in databases {
        let setup =
            setup(Language::Lua).environment("DUNNAGE_TOKENS", &format!("admin {ADMIN}")).environment("DUNNAGE_DATABASE_URL", url);
        let (status, said) = setup.refused();
        assert!(!status.success(), "{url}: {said}");
        require_none("what it said", &said, secrets().into_iter().chain(["canary-database"]));
    }
    for tokens in [
        format!("canary-scope {ADMIN}"),
        "admin canary-short".to_owned(),
        format!("{ADMIN} admin"),
        format!("admin {ADMIN}; infer {ADMIN}"),
    ] {
        let (status, said) = setup(Language::Lua).environment("DUNNAGE_TOKENS", &tokens).refused();
        assert_eq!(status.code(), Some(2), "{said}");
        require_none("what it said", &said, secrets().into_iter().chain(["canary-scope", "canary-short"]));
    }
}

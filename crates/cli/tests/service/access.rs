//! Who may do what, and how much they are told.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, job_id, signal};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

use crate::listener::{Event, Listener};

in_both_languages!(
    a_traceback_is_shown_to_tokens_with_the_scope_only,
    the_last_words_of_a_worker_are_told_to_those_who_may_train,
    why_a_script_cannot_be_loaded_is_not_told_to_strangers,
    a_stream_of_events_ends_with_what_its_token_allows,
);

const PATIENCE: Duration = Duration::from_secs(20);
/// Loopback by a name that does not look like it, so that a service is open to others without being so.
pub(crate) const BEYOND: &str = "::ffff:127.0.0.1";

pub(crate) const INFER: &str = "infer-0123456789abcdef0123456789abcdef";
pub(crate) const TRAIN: &str = "train-0123456789abcdef0123456789abcdef";
pub(crate) const METRICS: &str = "metrics-0123456789abcdef0123456789abcdef";
pub(crate) const ADMIN: &str = "admin-0123456789abcdef0123456789abcdef";
const WRONG: &str = "wrong-0123456789abcdef0123456789abcdef";

/// One token of each scope.
pub(crate) fn all_tokens() -> String {
    format!("infer {INFER}; train {TRAIN}; metrics {METRICS}; admin {ADMIN}")
}

/// Writes a file of tokens in one step, as whoever does it well.
fn write_tokens(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn token_file(setup: &Setup, text: &str) -> PathBuf {
    let path = setup.folder().join("tokens");
    write_tokens(&path, text, 0o600);
    path
}

fn asked(service: &Service, method: &str, target: &str, token: &str) -> Response {
    service.send(&Request::new(method, target).token(token))
}

#[test]
fn each_path_takes_its_scopes_and_nothing_less() {
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.start();
    let job = "8c8b8a53-5c3c-4a2c-9d0a-4d1f0e6e7a01";
    let [job_target, logs, events] = ["", "/logs", "/events"].map(|rest| format!("/jobs/{job}{rest}"));
    let status = format!("/status?jobId={job}");
    let cases: [(&str, &str, &[&str]); 18] = [
        ("POST", "/output", &[INFER]),
        ("GET", &status, &[INFER, TRAIN]),
        ("HEAD", &status, &[INFER, TRAIN]),
        ("POST", "/train", &[TRAIN]),
        ("OPTIONS", "/train", &[TRAIN]),
        ("PUT", "/train", &[TRAIN]),
        ("POST", "/input", &[TRAIN]),
        ("GET", "/jobs", &[TRAIN]),
        ("GET", &job_target, &[TRAIN]),
        ("DELETE", &job_target, &[TRAIN]),
        ("GET", &logs, &[TRAIN]),
        ("GET", &events, &[TRAIN]),
        ("GET", "/models", &[TRAIN]),
        ("POST", "/models/1/activate", &[]),
        ("GET", "/metrics", &[METRICS]),
        ("POST", "/%6futput", &[]),
        ("POST", "/%74rain", &[]),
        ("GET", "/metric%73", &[]),
    ];
    for (method, target, allowed) in cases {
        for token in [INFER, TRAIN, METRICS, ADMIN] {
            let answer = asked(&service, method, target, token);
            let is_allowed = token == ADMIN || allowed.contains(&token);
            let is_refused = answer.status == 403 || answer.text().contains("\"unknown_path\"");
            assert_eq!(is_refused, !is_allowed, "{method} {target} {token}: {answer}");
            if answer.status == 403 {
                assert!(answer.header("www-authenticate").unwrap().contains("error=\"insufficient_scope\", scope="), "{answer}");
            }
        }
        for (token, code, challenge) in [
            (None, "token_missing", "Bearer realm=\"dunnage\""),
            (Some(WRONG), "token_invalid", "Bearer realm=\"dunnage\", error=\"invalid_token\""),
        ] {
            let request = Request::new(method, target);
            let answer = service.send(&token.iter().fold(request, |request, token| request.token(token)));
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)), "{method} {target}: {answer}");
            if method != "HEAD" {
                answer.expect_problem(401, code);
            }
        }
    }
    for target in ["/healthz/live", "/healthz/ready", "/healthz/startup", "/openapi.json", "/docs/"] {
        assert_eq!(service.get(target).status, 200, "{target}");
        assert_eq!(asked(&service, "GET", target, WRONG).status, 200, "{target}");
    }
    assert_eq!(asked(&service, "GET", "/jobs", ADMIN).expect(200)["jobs"], json!([]));
}

#[test]
fn what_was_not_let_in_has_no_effect() {
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.start();
    let body = setup.body(json!({}));
    for call in ["/train", "/input"] {
        let request = || Request::new("POST", call).json(&body);
        service.send(&request()).expect_problem(401, "token_missing");
        service.send(&request().token(WRONG)).expect_problem(401, "token_invalid");
        service.send(&request().header("Authorization", &format!("Basic {TRAIN}"))).expect_problem(401, "token_missing");
        service.send(&request().token(TRAIN).token(ADMIN)).expect_problem(401, "token_invalid");
        service
            .send(&Request::new("POST", &format!("{call}?access_token={TRAIN}")).json(&body))
            .expect_problem(401, "token_missing");
        service.send(&request().token(INFER)).expect_problem(403, "scope_missing");
    }
    assert_eq!(asked(&service, "GET", "/jobs", TRAIN).expect(200)["jobs"], json!([]));
    let job = job_id(&service.send(&Request::new("POST", "/train").json(&body).token(TRAIN)));
    let known = asked(&service, "GET", &format!("/status?jobId={job}"), INFER).expect(200);
    assert_eq!(known["kind"], "train", "whoever was told the id may ask");
}

/// A body that was not read must not be taken for the next request.
#[test]
fn the_body_of_a_refused_request_is_not_the_next_request() {
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.start();
    let hidden = "GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = format!("POST /train HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", hidden.len());
    let last = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(service.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{head}{hidden}{last}").as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert!(answers.starts_with("HTTP/1.1 401 "), "{answers}");
    assert!(!answers.contains("HTTP/1.1 200 ") && answers.matches("HTTP/1.1 ").count() <= 2, "{answers}");
}

#[test]
fn tokens_come_and_go_while_the_server_runs() {
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_TOKENS", &format!("metrics {METRICS}"));
    let path = token_file(&setup, &format!("train {TRAIN} # the old one\n"));
    let service = setup.start_with(&["--token-file", path.to_str().unwrap()]);
    let is_let_in = |token: &str| asked(&service, "GET", "/jobs", token).status == 200;
    assert!(is_let_in(TRAIN) && !is_let_in(ADMIN));

    write_tokens(&path, &format!("admin {ADMIN}\n"), 0o600);
    eventually("the new token is let in", PATIENCE, || is_let_in(ADMIN).then_some(()));
    assert!(!is_let_in(TRAIN), "the old one is not");
    assert_eq!(asked(&service, "GET", "/metrics", METRICS).status, 200, "those of the environment stay");

    let broken = [("train hush-hush\n", 0o600), ("# nobody\n", 0o600), (&format!("train {TRAIN}\n"), 0o644)];
    for (count, (text, mode)) in broken.into_iter().enumerate() {
        write_tokens(&path, text, mode);
        let complaints = || service.log().iter().filter(|line| line.contains("cannot be read anew")).count();
        eventually("the log tells of the broken file", PATIENCE, || (complaints() == count + 1).then_some(()));
        assert!(is_let_in(ADMIN) && !is_let_in(TRAIN));
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    eventually("the mended file is read", PATIENCE, || is_let_in(TRAIN).then_some(()));
    let readings = || service.log().iter().filter(|line| line.contains("\"message\":\"read anew\"")).count();
    let before = readings();
    signal(service.pid(), "HUP");
    eventually("SIGHUP has it read again", PATIENCE, || (readings() > before).then_some(()));
    let log = service.log().join("\n");
    assert!(![TRAIN, ADMIN, METRICS, "hush-hush"].iter().any(|token| log.contains(token)), "{log}");
}

fn a_stream_of_events_ends_with_what_its_token_allows(language: Language) {
    let setup = Setup::new(language, "calls");
    let path = token_file(&setup, &format!("train {TRAIN}\nadmin {ADMIN}\n"));
    let service = setup.start_with(&["--token-file", path.to_str().unwrap()]);
    let submit = Request::new("POST", "/input").json(&setup.body(json!({"case": "wait"}))).token(ADMIN);
    let job = job_id(&service.send(&submit));
    let listen = |token: &str| {
        let authorization = format!("Authorization: Bearer {token}\r\n");
        Listener::connect(&service, &format!("/jobs/{job}/events"), &authorization)
    };
    let waiting = |event: &Event| event.name == "progress" && event.data["message"] == "waiting";
    let (mut lost, mut kept) = (listen(TRAIN), listen(ADMIN));
    lost.until("it runs", waiting);
    kept.until("it runs", waiting);
    write_tokens(&path, &format!("infer {TRAIN}\nadmin {ADMIN}\n"), 0o600);
    eventually("the token is read anew", PATIENCE, || (asked(&service, "GET", "/jobs", TRAIN).status == 403).then_some(()));
    service.send(&Request::new("DELETE", &format!("/jobs/{job}")).token(ADMIN)).expect(202);
    assert_eq!(lost.rest(), [], "the stream ends in good order, and before what comes then");
    kept.until("it is cancelled", |event| event.data["state"] == "cancelled");
}

/// The addresses on which a process listens, as the kernel writes them.
fn listened_on(pid: i32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links: Vec<_> = links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect();
    let is_own = |inode: &str| links.iter().any(|link| link.as_os_str() == format!("socket:[{inode}]").as_str());
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1)).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|fields| fields[3] == "0A" && is_own(fields[9]));
    listening.map(|fields| fields[1].split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn by_default_only_this_machine_can_connect() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let own = listened_on(service.pid());
    assert!(!own.is_empty() && own.iter().all(|address| address == "0100007F"), "{own:?}");
    assert_eq!(service.workers().into_iter().flat_map(listened_on).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_server_that_anybody_could_use_is_refused_unless_that_is_meant() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--host", BEYOND]);
    let (status, said) = setup.refused();
    assert!(status.code() == Some(2) && said.contains("--token-file") && said.contains("--allow-anonymous"), "{said}");
    let setup = setup.environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.start();
    service.get("/jobs").expect_problem(401, "token_missing");
    asked(&service, "GET", "/jobs", TRAIN).expect(200);
    let (status, said) = setup.flags(&["--allow-anonymous"]).refused();
    assert!(status.code() == Some(2) && said.contains("leave one of them out"), "{said}");
}

#[test]
fn a_file_of_tokens_that_cannot_be_used_stops_the_start() {
    let setup = Setup::new(Language::Lua, "calls");
    let path = token_file(&setup, &format!("train {TRAIN}\n"));
    let flag = path.to_str().unwrap().to_owned();
    let setup = setup.flags(&["--token-file", &flag]);
    for (text, mode, reason) in [
        (format!("train {TRAIN}\n"), 0o644, "is open to everybody on this machine"),
        (format!("everything {TRAIN}\n"), 0o600, "line 1: scopes are written like"),
        ("\n".to_owned(), 0o600, "there is no token in"),
    ] {
        write_tokens(&path, &text, mode);
        let (status, said) = setup.refused();
        assert!(status.code() == Some(2) && said.contains(reason) && !said.contains(TRAIN), "{said}");
    }
    std::fs::remove_file(&path).unwrap();
    let (status, said) = setup.refused();
    assert!(status.code() == Some(2) && said.contains("cannot be read"), "{said}");
}

fn ended(service: &Service, job: &str, ask: impl Fn(Request) -> Request) -> Value {
    let look = || {
        let status = service.send(&ask(Request::new("GET", &format!("/jobs/{job}")))).expect(200);
        (status["status"] != "running").then_some(status)
    };
    eventually("the job ends", PATIENCE, look)
}

fn a_traceback_is_shown_to_tokens_with_the_scope_only(language: Language) {
    let setup = Setup::new(language, "calls")
        .flags(&["--host", BEYOND])
        .environment("DUNNAGE_TOKENS", &format!("infer,train {TRAIN}; infer {INFER}"));
    let body = setup.body(json!({"case": "raise"}));
    // Lua begins each message with the place where it was raised; only the traceback has the way there.
    let line = "raceback";
    let service = setup.start();
    let raised = |token: &str| {
        let answer = service.send(&Request::new("POST", "/output").json(&body).token(token));
        answer.expect_problem(500, "script_error");
        answer.json()["traceback"].as_str().map(str::to_owned)
    };
    assert!(raised(TRAIN).unwrap().contains(line));
    assert_eq!(raised(INFER), None);
    let job = job_id(&service.send(&Request::new("POST", "/train").json(&body).token(TRAIN)));
    let whole = ended(&service, &job, |request| request.token(TRAIN));
    assert!(whole["error"]["traceback"].as_str().unwrap().contains(line), "{whole}");
    let status = asked(&service, "GET", &format!("/status?jobId={job}"), INFER).expect(200);
    assert_eq!((&status["error"]["code"], &status["error"]["traceback"]), (&json!("script_error"), &Value::Null), "{status}");
    let log = asked(&service, "GET", &format!("/jobs/{job}/logs"), TRAIN);
    assert!(log.text().contains(line), "{log}");
    drop(service);

    let setup = Setup::new(language, "calls").flags(&["--host", BEYOND, "--allow-anonymous"]);
    let body = setup.body(json!({"case": "raise"}));
    let service = setup.start();
    let answer = service.post("/output", &body);
    let detail = answer.expect_problem(500, "script_error");
    assert!(detail.contains("no such luck") && !answer.text().contains(line), "{answer}");
    let job = job_id(&service.post("/train", &body));
    let status = ended(&service, &job, |request| request);
    let log = service.get(&format!("/jobs/{job}/logs"));
    let events = Listener::open(&service, &job).rest();
    assert!(events.iter().any(|event| event.name == "state"), "{events:?}");
    for shown in [status.to_string(), log.text().to_owned(), format!("{events:?}")] {
        assert!(!shown.contains(line), "{shown}");
    }
    assert!(log.json()["next"].as_u64() > Some(0), "the place in the log is told all the same: {log}");
}

fn the_last_words_of_a_worker_are_told_to_those_who_may_train(language: Language) {
    let dies = match language {
        Language::Python => "import os\nos.write(2, b'cannot read /srv/hidden/key\\n')\nos.abort()\n",
        Language::Lua => {
            "io.stderr:write('cannot read /srv/hidden/key\\n')\n\
             local ffi = require('ffi')\nffi.cdef('void abort(void);')\nffi.C.abort()\n"
        }
    };
    let setup = Setup::inline(language, "model", dies).environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.launch();
    let ready = |token: &str| Request::new("GET", "/healthz/ready").token(token);
    let told = |request: &Request| service.send(request).expect_problem(503, "worker_unavailable");
    let in_full = || told(&ready(TRAIN)).contains("signal 6 (abort): cannot read /srv/hidden/key").then_some(());
    eventually("who may train is told in full", PATIENCE, in_full);
    let output = Request::new("POST", "/output").json(&setup.body(json!({}))).token(INFER);
    for outline in [told(&output), told(&ready(INFER)), told(&Request::new("GET", "/healthz/ready"))] {
        assert!(outline.contains("`abort`") && !outline.contains("hidden"), "{outline}");
    }
}

fn why_a_script_cannot_be_loaded_is_not_told_to_strangers(language: Language) {
    let broken = match language {
        Language::Python => "raise RuntimeError('/srv/hidden/weights.bin')\n",
        Language::Lua => "error('/srv/hidden/weights.bin')\n",
    };
    let tells = |service: &Service, request: &Request| {
        let answer = service.send(request);
        answer.expect_problem(503, "worker_unavailable");
        answer.text().contains("/srv/hidden")
    };
    let ready = || Request::new("GET", "/healthz/ready");
    let setup = Setup::inline(language, "model", broken).environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.launch();
    eventually("the reason is told", PATIENCE, || tells(&service, &ready().token(TRAIN)).then_some(()));
    for stranger in [ready(), ready().token(WRONG), ready().token(INFER), Request::new("GET", "/healthz/startup")] {
        assert!(!tells(&service, &stranger), "{stranger:?}");
        assert!(service.send(&stranger).text().contains("`load_failed`"), "{stranger:?}");
    }
    drop(service);

    let setup = Setup::inline(language, "model", broken).flags(&["--host", BEYOND, "--allow-anonymous"]);
    let service = setup.launch();
    let logged = || service.log().iter().any(|line| line.contains("/srv/hidden")).then_some(());
    eventually("the log has the reason", PATIENCE, logged);
    assert!(!tells(&service, &ready()));
    assert!(!tells(&service, &Request::new("POST", "/output").json(&setup.body(json!({})))));
}

//! The client's commands, against a service that answers what it is told to.

mod support;

use std::fs;
use std::net::TcpListener;

use support::{Ended, Service, dunnage, ended};

const ID: &str = "6f1c2a34-0000-4000-8000-000000000001";

fn ok(body: impl Into<String>) -> (u16, &'static str, String) {
    (200, "", body.into())
}

fn accepted() -> (u16, &'static str, String) {
    (202, "", format!(r#"{{"jobId":"{ID}"}}"#))
}

/// A status with more fields in it.
fn status(state: &str, more: &str) -> String {
    format!(
        r#"{{"jobId":"{ID}","kind":"train","status":"?","state":"{state}","attempt":1,"maxAttempts":3,"createdAt":"2026-11-24T01:47:00.000Z"{more}}}"#
    )
}

fn log(lines: &[(u64, &str)]) -> (u16, &'static str, String) {
    let line = |(sequence, message): &(u64, &str)| {
        format!(
            r#"{{"sequence":{sequence},"at":"2026-11-24T01:47:01.000Z","attempt":1,"source":"stdout","level":"info","message":"{message}"}}"#
        )
    };
    let lines: Vec<_> = lines.iter().map(line).collect();
    ok(format!(r#"{{"lines":[{}],"next":0}}"#, lines.join(",")))
}

fn problem(status: u16) -> (u16, &'static str, String) {
    let body = r#"{"type":"about:blank","title":"A file does not exist","status":0,"detail":"`a`","code":"file_not_found","instance":"/x","requestId":"r-1"}"#;
    (status, "Content-Type: application/problem+json\r\n", body.to_owned())
}

/// Runs a command against the service, and returns how it ended and what it asked.
fn against(service: Service, arguments: &[&str]) -> (Ended, Vec<support::Request>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "1,2\n").unwrap();
    fs::write(folder.path().join("b.csv"), "3,4\n").unwrap();
    let output = dunnage(folder.path(), arguments).env("DUNNAGE_URL", &service.url).output().unwrap();
    (ended(output), service.requests())
}

fn lines(requests: &[support::Request]) -> Vec<&str> {
    requests.iter().map(|request| request.line.as_str()).collect()
}

#[test]
fn training_waits_and_shows_the_log_once() {
    let done = status("done", r#","result":{"loss":0.5},"version":4,"finishedAt":"2026-11-24T01:47:12.300Z""#);
    let service = Service::start(vec![
        accepted(),
        ok(status("running", r#","progress":{"fraction":0.5,"message":"epoch 1"}"#)),
        log(&[(1, "one"), (2, "two")]),
        log(&[]),
        ok(done),
        log(&[(3, "three")]),
        log(&[]),
    ]);
    let (ended, requests) = against(service, &["train", "s3://walks/a.csv", "--param", "epochs=2", "--key", "k"]);
    assert_eq!(ended.stdout, "{\"loss\":0.5}\n");
    let expected = format!(
        "train job {ID}\n01:47:01 stdout   one\n01:47:01 stdout   two\n01:47:01 stdout   three\ndone in 12.3s, published as version 4\n"
    );
    assert_eq!((ended.code, ended.stderr), (Some(0), expected));
    let job = format!("GET /status?jobId={ID}");
    let logs = |after: u64| format!("GET /jobs/{ID}/logs?after={after}&limit=1000");
    assert_eq!(lines(&requests), ["POST /train", &job, &logs(0), &logs(2), &job, &logs(2), &logs(3)]);
    assert_eq!(requests[0].body, r#"{"Files":["s3://walks/a.csv"],"Key":"k","Params":{"epochs":2}}"#);
}

#[test]
fn a_health_check_does_not_wait_forever() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let ended = support::run(folder.path(), &["health", "--timeout", "50ms", "--url", &url]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("was not answered\n  caused by: timeout"), "{}", ended.stderr);
}

#[test]
fn a_parameter_given_twice_is_refused_before_anything_is_sent() {
    let (ended, requests) = against(Service::start(Vec::new()), &["output", "a.csv", "--param", "x=1", "--param", "x=2"]);
    assert_eq!((ended.code, requests.len()), (Some(2), 0));
    assert!(ended.stderr.starts_with("error: `--param x=…` is given twice"), "{}", ended.stderr);
}

#[test]
fn local_files_are_uploaded() {
    let service = Service::start(vec![accepted()]);
    let arguments = ["input", "a.csv", "b.csv", "--params", r#"{"user":"ada"}"#, "--idempotency-key", "once", "--no-wait"];
    let (ended, requests) = against(service, &arguments);
    assert_eq!((ended.code, ended.stdout, ended.stderr.as_str()), (Some(0), format!("{ID}\n"), ""));
    let request = &requests[0];
    assert_eq!(request.line, "POST /input");
    assert!(request.headers.contains(&"idempotency-key: once".to_owned()), "{:?}", request.headers);
    assert!(request.headers.iter().any(|header| header.starts_with("content-type: multipart/form-data; boundary=dunnage-")));
    for part in [
        "name=\"Params\"\r\n\r\n{\"user\":\"ada\"}\r\n",
        "name=\"file\"; filename=\"a.csv\"\r\nContent-Type: application/octet-stream\r\n\r\n1,2\n\r\n",
        "name=\"file\"; filename=\"b.csv\"\r\nContent-Type: application/octet-stream\r\n\r\n3,4\n\r\n",
    ] {
        assert!(request.body.contains(part), "{part:?} is not in {:?}", request.body);
    }
}

#[test]
fn a_failed_job_fails_the_command() {
    let failed = status("error", r#","error":{"code":"script_error","message":"ValueError: no"}"#);
    let service = Service::start(vec![accepted(), ok(failed), log(&[])]);
    let (ended, _) = against(service, &["train", "s3://walks/a.csv"]);
    let expected = format!("train job {ID}\nerror: job {ID} failed: ValueError: no (code `script_error`)\n");
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr), (Some(1), "", expected));
}

#[test]
fn a_cancelled_job_fails_the_command_and_is_printed_as_json() {
    let cancelled = status("cancelled", "");
    let service = Service::start(vec![accepted(), ok(cancelled.clone()), log(&[])]);
    let (ended, _) = against(service, &["train", "s3://walks/a.csv", "--json"]);
    let expected = format!("train job {ID}\nerror: job {ID} was cancelled\n");
    assert_eq!((ended.code, ended.stdout, ended.stderr), (Some(1), format!("{cancelled}\n"), expected));
}

#[test]
fn waiting_bears_with_a_service_that_is_away_for_a_moment() {
    let service =
        Service::start(vec![accepted(), problem(503), ok(status("done", "")), problem(503), ok(status("done", "")), log(&[])]);
    let (ended, _) = against(service, &["train", "s3://walks/a.csv"]);
    assert_eq!((ended.code, ended.stderr), (Some(0), format!("train job {ID}\ndone\n")));
}

#[test]
fn waiting_ends_when_the_service_knows_no_such_job() {
    let service = Service::start(vec![accepted(), problem(404)]);
    let (ended, _) = against(service, &["train", "s3://walks/a.csv"]);
    let expected = format!(
        "train job {ID}\nerror: lost sight of job {ID}, which may go on\n  caused by: A file does not exist: `a` (status 404, code \
         `file_not_found`, request r-1)\n"
    );
    assert_eq!((ended.code, ended.stderr), (Some(1), expected));
}

#[test]
fn the_output_is_printed_as_numbers_or_as_it_came() {
    let answer = || (200, "Model-Version: 3\r\n", r#"{"outputVector":[0.25,1.0]}"#.to_owned());
    let (human, requests) = against(Service::start(vec![answer()]), &["output", "a.csv"]);
    assert_eq!(lines(&requests), ["POST /output"]);
    assert_eq!((human.stdout.as_str(), human.stderr.as_str()), ("0.25 1.0\n", "answered by version 3\n"));
    let (machine, _) = against(Service::start(vec![answer()]), &["output", "a.csv", "--json"]);
    assert_eq!((machine.stdout.as_str(), machine.stderr.as_str()), ("{\"outputVector\":[0.25,1.0]}\n", ""));
}

#[test]
fn a_refusal_is_told_with_code_and_request() {
    let (ended, _) = against(Service::start(vec![problem(422)]), &["output", "s3://walks/a"]);
    let expected = "error: A file does not exist: `a` (status 422, code `file_not_found`, request r-1)\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), expected));
}

#[test]
fn an_answer_of_something_else_is_told_as_such() {
    let service = Service::start(vec![ok("<html>")]);
    let url = service.url.clone();
    let (ended, _) = against(service, &["models"]);
    let expected = format!(
        "error: the answer of {url}/models is not that of a Dunnage service\n  caused by: expected value at line 1 column 1\n"
    );
    assert_eq!((ended.code, ended.stderr), (Some(1), expected));
}

#[test]
fn where_nothing_listens_the_way_out_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["health"][..], &["jobs"], &["output", "s3://walks/a"]] {
        let ended = ended(dunnage(folder.path(), arguments).args(["--url", &format!("http://{address}/")]).output().unwrap());
        let expected = format!("error: nothing answers at http://{address}; start it with `dunnage serve`\n");
        assert_eq!((ended.code, ended.stderr), (Some(1), expected));
    }
}

#[test]
fn health_is_an_exit_code() {
    let (ready, requests) = against(Service::start(vec![ok("{}")]), &["health"]);
    assert_eq!((ready.code, ready.stdout.as_str(), lines(&requests)), (Some(0), "ready\n", vec!["GET /healthz/ready"]));
    let (starting, _) = against(Service::start(vec![(503, "", "starting".to_owned())]), &["health"]);
    let expected = "error: the service refused the request: starting (status 503)\n";
    assert_eq!((starting.code, starting.stderr.as_str()), (Some(1), expected));
}

#[test]
fn whether_it_is_alive_is_another_question() {
    let (alive, requests) = against(Service::start(vec![ok("{}")]), &["health", "--live"]);
    assert_eq!((alive.code, alive.stdout.as_str(), lines(&requests)), (Some(0), "alive\n", vec!["GET /healthz/live"]));
}

#[test]
fn a_health_check_asks_where_the_server_was_told_to_listen() {
    let service = Service::start(vec![ok("{}"), ok("{}")]);
    let port = service.url.rsplit(':').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let in_variables = dunnage(folder.path(), &["health"]).envs([("DUNNAGE_HOST", "0.0.0.0"), ("DUNNAGE_PORT", port)]).output();
    assert_eq!(ended(in_variables.unwrap()).stdout, "ready\n");
    fs::write(folder.path().join("dunnage.toml"), format!("port = {port}\n")).unwrap();
    let in_file = dunnage(folder.path(), &["health"]).env("DUNNAGE_TOKEN", "hush").output();
    assert_eq!(ended(in_file.unwrap()).stdout, "ready\n");
    for request in service.requests() {
        assert!(request.headers.iter().all(|header| !header.starts_with("authorization:")), "{:?}", request.headers);
    }
}

#[test]
fn a_health_check_with_settings_that_make_no_sense_blames_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let ended = ended(dunnage(folder.path(), &["health"]).env("DUNNAGE_PORT", "http").output().unwrap());
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.starts_with("error: environment variable `DUNNAGE_PORT`: invalid value 'http'"), "{}", ended.stderr);
}

#[test]
fn jobs_are_listed_and_filtered() {
    let job = status("running", r#","progress":{"fraction":0.42}"#);
    let service = Service::start(vec![ok(format!(r#"{{"jobs":[{job}]}}"#))]);
    let (ended, requests) = against(service, &["jobs", "--state", "running", "--kind", "train", "--limit", "5"]);
    assert_eq!(lines(&requests), ["GET /jobs?limit=5&state=running&kind=train"]);
    let words: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["job", "kind", "state", "progress", "age", "attempt"]);
    assert_eq!((&words[1][..4], &words[1][5..]), (&[ID, "train", "running", "42%"][..], &["1", "of", "3"][..]));
    let (none, _) = against(Service::start(vec![ok(r#"{"jobs":[]}"#)]), &["jobs"]);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "no jobs\n"));
}

#[test]
fn one_job_is_shown_in_full() {
    let job = status("queued", r#","files":["s3://walks/a"],"params":{"user":"ada"}"#);
    let (ended, requests) = against(Service::start(vec![ok(job)]), &["jobs", ID]);
    assert_eq!(lines(&requests), [format!("GET /jobs/{ID}")]);
    let expected = format!(
        "job      {ID}\nkind     train\nstate    queued\nattempt  1 of 3\nfiles    s3://walks/a\nparams   {{\"user\":\"ada\"}}\n\
         created  2026-11-24T01:47:00.000Z\n"
    );
    assert_eq!(ended.stdout, expected);
}

#[test]
fn logs_are_read_to_the_end_and_followed() {
    let running = || ok(status("running", ""));
    let (once, _) = against(Service::start(vec![running(), log(&[(1, "one")]), log(&[])]), &["logs", ID]);
    assert_eq!((once.code, once.stdout.as_str()), (Some(0), "01:47:01 stdout   one\n"));
    let answers = vec![running(), log(&[(1, "one")]), log(&[]), ok(status("done", "")), log(&[(2, "two")]), log(&[])];
    let (followed, _) = against(Service::start(answers), &["logs", "-f", ID, "--json"]);
    let messages: Vec<_> = followed.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    assert_eq!(messages.iter().map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn cancelling_tells_how_far_it_got() {
    let (asked, requests) = against(Service::start(vec![(202, "", "{}".to_owned())]), &["cancel", ID]);
    assert_eq!(lines(&requests), [format!("DELETE /jobs/{ID}")]);
    assert_eq!((asked.code, asked.stderr), (Some(0), format!("job {ID} is being cancelled\n")));
    let (cancelled, _) = against(Service::start(vec![ok("{}")]), &["cancel", ID]);
    assert_eq!(cancelled.stderr, format!("job {ID} is cancelled\n"));
}

#[test]
fn models_are_listed_and_activated() {
    let version = |number: u32, active: bool| {
        format!(r#"{{"version":{number},"state":"ready","active":{active},"job":"{ID}","createdAt":"2026-11-24T01:47:00.000Z"}}"#)
    };
    let models = format!(r#"{{"service":"gait","active":2,"versions":[{},{}]}}"#, version(3, false), version(2, true));
    let (listed, _) = against(Service::start(vec![ok(models)]), &["models"]);
    let rows: Vec<_> = listed.stdout.lines().skip(1).map(|line| &line[..15]).collect();
    assert_eq!(rows, ["   3        rea", "*  2        rea"]);
    let (activated, requests) = against(Service::start(vec![ok(r#"{"version":3,"active":true}"#)]), &["models", "activate", "3"]);
    assert_eq!(lines(&requests), ["POST /models/3/activate"]);
    assert_eq!((activated.code, activated.stderr.as_str()), (Some(0), "version 3 is active\n"));
}

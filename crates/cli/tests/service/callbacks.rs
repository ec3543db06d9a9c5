//! Callbacks: what a receiver gets, how often, and where none goes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::service::{Service, job_id};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../../../docs/callbacks.md");
const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEW_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAAAAAAAAA=";
/// How long a callback may take to come, its retry included.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Status(u16),
    RedirectTo(SocketAddr),
    /// None, while the connection stays open.
    Silence,
}

/// A receiver on a free port. It has an answer for each request in turn, and the last one for all that follow.
struct Receiver {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

#[derive(Debug, Clone)]
struct Call {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Receiver {
    fn start(answers: &'static [Answer]) -> Self {
        Self::answering(answers.to_vec())
    }

    fn answering(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let heard = Arc::clone(&calls);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let call = Call::read(&stream);
                let answer = answers[heard.lock().unwrap().len().min(answers.len() - 1)];
                heard.lock().unwrap().push(call);
                match answer.head() {
                    // A sender that has been killed meanwhile does not read it.
                    Some(head) => drop(stream.write_all(head.as_bytes())),
                    None => silent.push(stream),
                }
            }
        });
        Self { address, calls }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?token=hush", self.address)
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until there have been so many calls.
    #[track_caller]
    fn wait_for(&self, count: usize) -> Vec<Call> {
        eventually(&format!("{count} callbacks have come"), PATIENCE, || Some(self.calls()).filter(|calls| calls.len() >= count))
    }
}

impl Answer {
    fn head(self) -> Option<String> {
        let (status, location) = match self {
            Self::Status(status) => (status, String::new()),
            Self::RedirectTo(address) => (302, format!("Location: http://{address}/\r\n")),
            Self::Silence => return None,
        };
        Some(format!("HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n"))
    }
}

impl Call {
    fn read(stream: &TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut next = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let line = next();
        let lines = std::iter::from_fn(|| Some(next()).filter(|line| !line.is_empty()));
        let headers: BTreeMap<_, _> = lines
            .map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).unwrap())
            .collect();
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        Self { line, headers, body: String::from_utf8(body).unwrap() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether the Python of the documentation finds that the call is genuine.
    fn is_genuine(&self, secret: &str) -> bool {
        let (_, rest) = DOCUMENT.split_once("```python\n").unwrap();
        let (code, _) = rest.split_once("```").unwrap();
        let program = format!(
            "{code}\nimport json, sys\nsecret, headers, body = json.load(sys.stdin)\nprint(verify(secret, headers, body.encode()))"
        );
        let mut python =
            Command::new("python3").args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let given = json!([secret, self.headers, self.body]).to_string();
        python.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
        match String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap().trim() {
            "True" => true,
            "False" => false,
            other => panic!("python answered `{other}`"),
        }
    }
}

/// A service that may call receivers on this machine, and does not wait long.
fn setup() -> Setup {
    with_secret().flags(&["--callback-private", "--callback-backoff", "200ms"])
}

fn with_secret() -> Setup {
    Setup::new(Language::Lua, "calls").environment("DUNNAGE_CALLBACK_SECRET", &format!("{OLD_SECRET} {NEW_SECRET}"))
}

fn body(setup: &Setup, params: Value, url: &str) -> Value {
    let mut body = setup.body(params);
    body["Callback"] = json!(url);
    body
}

/// Waits until a job's callback is settled, and returns how it came out.
#[track_caller]
fn settled(service: &Service, job: &str) -> Value {
    let status = service.wait_for(job, "its callback is settled", |status| status["callback"]["state"] != "pending");
    status["callback"].clone()
}

#[track_caller]
fn refused(service: &Service, body: &Value) -> String {
    service.post("/input", body).expect_problem(422, "callback_invalid")
}

#[test]
fn every_end_of_a_job_is_told_and_signed() {
    let receiver = Receiver::start(&[Answer::Status(204)]);
    let setup = setup().flags(&["--cancel-grace", "100ms"]);
    let service = setup.start();
    let submit = |case: &str| service.submit("/input", &body(&setup, json!({"case": case}), &receiver.url()));
    for (case, event) in [("given", "job.done"), ("raise", "job.error"), ("wait", "job.cancelled")] {
        let job = submit(case);
        if case == "wait" {
            service.send(&Request::new("DELETE", &format!("/jobs/{job}")));
        }
        let callback = settled(&service, &job);
        let shown = format!("http://{}/hook", receiver.address);
        assert_eq!(callback, json!({"url": shown, "state": "delivered", "attempts": 1}));

        let call = receiver.calls().pop().unwrap();
        assert_eq!(call.line, "POST /hook?token=hush HTTP/1.1");
        assert_eq!(call.headers["content-type"], "application/json");
        assert_eq!(call.headers["user-agent"], format!("dunnage/{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(call.headers["webhook-id"], format!("msg_{job}"));
        assert!(call.is_genuine(OLD_SECRET) && call.is_genuine(NEW_SECRET), "{call:?}");
        assert!(!call.is_genuine("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
        assert!(!Call { body: call.body.replace(event, "job.x"), ..call.clone() }.is_genuine(OLD_SECRET));

        let (mut told, mut status) = (call.json(), service.status(&job));
        assert_eq!((&told["type"], &told["timestamp"]), (&json!(event), &status["finishedAt"]));
        for job in [&mut told["data"], &mut status] {
            job.as_object_mut().unwrap().remove("callback");
        }
        assert_eq!(told["data"], status);
    }
    assert_eq!(receiver.calls().len(), 3);
}

#[test]
fn a_failed_delivery_is_repeated_under_the_same_id() {
    let receiver = Receiver::start(&[Answer::Status(500), Answer::Status(200)]);
    let setup = setup();
    let service = setup.start();
    let job = service.submit("/input", &body(&setup, json!({}), &receiver.url()));
    let shown = format!("http://{}/hook", receiver.address);
    assert_eq!(settled(&service, &job), json!({"url": shown, "state": "delivered", "attempts": 2}));
    let calls = receiver.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].headers["webhook-id"], calls[1].headers["webhook-id"]);
    assert!(calls.iter().all(|call| call.is_genuine(OLD_SECRET)), "{calls:?}");
    let metrics = service.get("/metrics");
    for outcome in ["retried", "delivered"] {
        let line = format!("dunnage_callback_deliveries_total{{outcome=\"{outcome}\",service=\"calls\"}} 1");
        assert!(metrics.text().contains(&line), "{line} in {}", metrics.text());
    }
}

#[test]
fn a_receiver_that_wants_no_more_is_left_alone() {
    let receiver = Receiver::start(&[Answer::Status(410)]);
    let setup = setup();
    let service = setup.start();
    let job = service.submit("/input", &body(&setup, json!({}), &receiver.url()));
    let callback = settled(&service, &job);
    assert_eq!(
        (&callback["state"], &callback["attempts"], &callback["error"]),
        (&json!("failed"), &json!(1), &json!("it answered 410"))
    );
}

#[test]
fn a_callback_is_given_up_after_its_last_attempt() {
    let receiver = Receiver::start(&[Answer::Status(503)]);
    let setup = setup().flags(&["--callback-attempts", "2"]);
    let service = setup.start();
    let job = service.submit("/input", &body(&setup, json!({}), &receiver.url()));
    let callback = settled(&service, &job);
    assert_eq!(
        (&callback["state"], &callback["attempts"], &callback["error"]),
        (&json!("failed"), &json!(2), &json!("it answered 503"))
    );
    assert_eq!(service.status(&job)["state"], "done", "the job itself has ended well");
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Receiver::start(&[Answer::Status(200)]);
    let receiver = Receiver::answering(vec![Answer::RedirectTo(other.address)]);
    let setup = setup().flags(&["--callback-attempts", "1"]);
    let service = setup.start();
    let job = service.submit("/input", &body(&setup, json!({}), &receiver.url()));
    let callback = settled(&service, &job);
    assert_eq!(callback["error"], "it answered 302, and redirects are not followed");
    assert_eq!((receiver.calls().len(), other.calls().len()), (1, 0));
}

#[test]
fn a_receiver_that_does_not_answer_or_is_not_there_is_tried_again() {
    let silent = Receiver::start(&[Answer::Silence]);
    let setup = setup().flags(&["--callback-timeout", "1s", "--callback-attempts", "1"]);
    let service = setup.start();
    // The port of a listener that has gone.
    let nobody = format!("http://{}/", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for (url, error) in [(silent.url(), "it did not answer in time"), (nobody, "it could not be reached")] {
        let job = service.submit("/input", &body(&setup, json!({}), &url));
        assert_eq!(settled(&service, &job)["error"], error);
    }
}

#[test]
fn a_server_killed_in_a_delivery_leaves_it_to_the_next() {
    let receiver = Receiver::start(&[Answer::Silence, Answer::Status(200)]);
    let setup = setup().flags(&["--callback-timeout", "1s"]);
    let first = setup.start();
    let job = first.submit("/input", &body(&setup, json!({}), &receiver.url()));
    receiver.wait_for(1);
    first.kill(Duration::from_secs(1));

    let second = setup.start();
    let calls = receiver.wait_for(2);
    assert_eq!(calls[0].headers["webhook-id"], calls[1].headers["webhook-id"]);
    assert_eq!(calls[1].json()["type"], "job.done");
    assert_eq!(settled(&second, &job)["state"], "delivered");
}

#[test]
fn a_terminated_server_does_not_wait_for_a_silent_receiver() {
    let receiver = Receiver::start(&[Answer::Silence]);
    let setup = setup().flags(&["--callback-timeout", "5m"]);
    let service = setup.start();
    service.submit("/input", &body(&setup, json!({}), &receiver.url()));
    receiver.wait_for(1);
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn private_receivers_are_refused_unless_they_are_allowed() {
    let setup = with_secret().flags(&["--callback-attempts", "1"]);
    let service = setup.start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for (url, detail) in [
        (format!("http://127.0.0.1:{port}/"), "`Callback` must begin with `https://`"),
        (format!("https://127.0.0.1:{port}/"), "`Callback` may not go to `127.0.0.1`, which is loopback"),
        (format!("https://localhost:{port}/"), "`Callback` may not go to `localhost`, which is loopback"),
        ("https://[fd00::1]/".to_owned(), "`Callback` may not go to `fd00::1`, which is private"),
        ("https://169.254.169.254/".to_owned(), "`Callback` may not go to `169.254.169.254`, which is link-local"),
        (
            "https://ada:hush@example.com/".to_owned(),
            "`Callback` may not have a user or a password; the signature says who sent it",
        ),
    ] {
        assert_eq!(refused(&service, &body(&setup, json!({}), &url)), detail, "{url}");
    }
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));

    // Names for loopback that only the system's resolver understands: what counts is the address connected to.
    for name in ["127.1", "0x7f000001", "2130706433"] {
        let job = service.submit("/input", &body(&setup, json!({}), &format!("https://{name}:{port}/")));
        let callback = settled(&service, &job);
        assert_eq!(callback["error"], "its host has an address that is loopback, where callbacks may not go", "{name}");
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing was connected to");
}

#[test]
fn only_jobs_of_a_server_with_a_secret_have_callbacks() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let with_callback = body(&setup, json!({}), "https://example.com/hook");
    let detail = service.post("/train", &with_callback).expect_problem(422, "callback_unavailable");
    assert!(detail.contains("--callback-secret"), "{detail}");
    let detail = service.post("/output", &with_callback).expect_problem(422, "request_invalid");
    assert!(detail.contains("`Callback`"), "{detail}");
}

#[test]
fn a_form_may_have_a_callback_and_a_repeated_request_must_have_the_same() {
    let receiver = Receiver::start(&[Answer::Status(200)]);
    let setup = setup();
    let service = setup.start();
    let form = Request::new("POST", "/input").form(&[("walk.csv", "1,2,3\n")], &[("Callback", &receiver.url())]);
    let job = job_id(&service.send(&form));
    assert_eq!(settled(&service, &job)["state"], "delivered");
    let twice =
        Request::new("POST", "/input").form(&[("a", "1")], &[("Callback", "https://a.example"), ("Callback", "https://a.example")]);
    service.send(&twice).expect_problem(400, "body_malformed");

    let send = |body: &Value| service.send(&Request::new("POST", "/input").json(body).header("Idempotency-Key", "once"));
    let first = job_id(&send(&body(&setup, json!({}), &receiver.url())));
    assert_eq!(job_id(&send(&body(&setup, json!({}), &receiver.url()))), first);
    send(&body(&setup, json!({}), &format!("{}2", receiver.url()))).expect_problem(422, "idempotency_mismatch");
    send(&setup.body(json!({}))).expect_problem(422, "idempotency_mismatch");
}

#[test]
fn secrets_are_told_to_nobody() {
    let receiver = Receiver::start(&[Answer::Status(500), Answer::Status(200)]);
    let setup = setup();
    let service = setup.start();
    let job = service.submit("/input", &body(&setup, json!({}), &receiver.url()));
    settled(&service, &job);
    refused(&service, &body(&setup, json!({}), "ftp://example.com/?token=hush"));
    let answers = [
        "/jobs",
        "/metrics",
        "/openapi.json",
        &format!("/jobs/{job}"),
        &format!("/jobs/{job}/logs"),
        &format!("/status?jobId={job}"),
    ]
    .map(|target| service.get(target).text().to_owned());
    let workers = service.workers();
    assert_eq!(workers.len(), 2);
    let environments =
        workers.iter().map(|pid| String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned());
    for text in answers.into_iter().chain(environments).chain(service.log()) {
        assert!(!text.contains("whsec_") && !text.contains("hush"), "{text}");
    }
}

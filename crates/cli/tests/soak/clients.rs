//! What a server has to bear: clients that want their answers, each with a nonce by which it is known.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dunnage_testing::http::{Request, Response};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

/// How many clients ask one request after the other.
pub(crate) const STEADY: u32 = 3;
/// How long a steady client waits before its next request.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one who submits jobs waits before the next.
const JOB_PAUSE: Duration = Duration::from_millis(100);
/// How long a job may take to end, with those before it and its attempts.
const JOB_PATIENCE: Duration = Duration::from_secs(60);
/// Of so many jobs one is followed to its end.
const FOLLOWED_EVERY: u32 = 5;
/// What jobs do, one after the other.
const JOB_CASES: [&str; 12] =
    ["echo", "echo", "echo", "flood", "echo", "echo", "raise", "echo", "segfault", "echo", "echo", "leave"];

/// What the clients have heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) answers: BTreeMap<String, usize>,
    pub(crate) complaints: Vec<String>,
}

/// The clients of one server.
pub(crate) struct Clients<'a> {
    pub(crate) service: &'a Service,
    file: String,
    next: AtomicU32,
    has_enough: AtomicBool,
    heard: Mutex<Heard>,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(service: &'a Service, setup: &Setup) -> Self {
        let file = setup.file("walk.csv", "1,2,3\n");
        Self { service, file, next: AtomicU32::new(1), has_enough: AtomicBool::new(false), heard: Mutex::default() }
    }

    /// One of each kind of request, so that what is made at the first use is there before the count.
    pub(crate) fn rehearse(&self) {
        let (nonce, request) = self.output("echo");
        self.check(nonce, request.send(self.service.address()));
        self.follow("echo");
    }

    /// Asks for outputs, one after the other. `client` only tells them apart.
    pub(crate) fn ask_steadily(&self, client: u32) {
        std::thread::sleep(PAUSE / STEADY * client);
        while !self.is_over() {
            let (nonce, request) = self.output("echo");
            self.check(nonce, request.send(self.service.address()));
            std::thread::sleep(PAUSE);
        }
    }

    /// Submits jobs of every kind.
    pub(crate) fn submit_jobs(&self) {
        for (case, number) in JOB_CASES.iter().cycle().zip(1..) {
            if self.is_over() {
                return;
            }
            if FOLLOWED_EVERY > 0 && u32::is_multiple_of(number, FOLLOWED_EVERY) {
                self.follow("echo");
            } else {
                let (_, request) = self.job(case);
                self.note(request.send(self.service.address()).map_or("no answer".to_owned(), |answer| answer.status.to_string()));
            }
            std::thread::sleep(JOB_PAUSE);
        }
    }

    /// Repeats something until it is enough.
    pub(crate) fn again_and_again(&self, mischief: fn(&Self)) {
        while !self.is_over() {
            mischief(self);
        }
    }

    /// Submits a job, and waits until it has ended with its own nonce.
    fn follow(&self, case: &str) {
        let (nonce, request) = self.job(case);
        let Ok(submitted) = request.send(self.service.address()) else { return self.note("no answer".to_owned()) };
        if submitted.status != 202 {
            return self.note(submitted.status.to_string());
        }
        let target = format!("/status?jobId={}", submitted.json()["jobId"].as_str().unwrap_or_default());
        let deadline = Instant::now() + JOB_PATIENCE;
        while Instant::now() < deadline {
            let status = Request::new("GET", &target).send(self.service.address());
            match status.map(|status| (status.status, status.json())) {
                Ok((200, status)) if status["status"] == "running" => {}
                Ok((200, status)) if status["status"] == "done" && status["result"] == nonce => {
                    return self.note("job done".to_owned());
                }
                // It was removed before it was asked for.
                Ok((404, _)) => return self.note("job gone".to_owned()),
                other => return self.complain(format!("job {nonce} ended so: {other:?}")),
            }
            std::thread::sleep(PAUSE);
        }
        self.complain(format!("job {nonce} has not ended in {JOB_PATIENCE:?}"));
    }

    /// A nonce, and a request for it.
    pub(crate) fn output(&self, case: &str) -> (u32, Request) {
        self.request("/output", case)
    }

    fn job(&self, case: &str) -> (u32, Request) {
        let target = if self.next.load(Ordering::Relaxed).is_multiple_of(2) { "/train" } else { "/input" };
        self.request(target, case)
    }

    fn request(&self, target: &str, case: &str) -> (u32, Request) {
        let nonce = self.next.fetch_add(1, Ordering::Relaxed);
        let body = json!({"Files": [self.file], "Params": {"nonce": nonce, "case": case}});
        (nonce, Request::new("POST", target).json(&body))
    }

    /// An answer is right if it is the nonce, and it may be a problem, as things go wrong all the time; nothing else is let pass.
    pub(crate) fn check(&self, nonce: u32, answered: std::io::Result<Response>) {
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => return self.complain(format!("request {nonce} was not answered: {error}")),
        };
        match answer.status {
            200 if is_all(&answer.json()["outputVector"], nonce) => self.note("right".to_owned()),
            500 | 502 | 503 | 504 if answer.header("content-type") == Some("application/problem+json") => {
                self.note(answer.json()["code"].as_str().unwrap_or("no code").to_owned());
            }
            _ => self.complain(format!("request {nonce} was answered wrongly: {answer}")),
        }
    }

    pub(crate) fn note(&self, answer: String) {
        *self.lock().answers.entry(answer).or_default() += 1;
    }

    /// The first complaints tell enough.
    pub(crate) fn complain(&self, complaint: String) {
        let mut heard = self.lock();
        if heard.complaints.len() < 20 {
            heard.complaints.push(complaint.chars().take(500).collect());
        }
    }

    /// Ends all clients soon.
    pub(crate) fn have_enough(&self) {
        self.has_enough.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.has_enough.load(Ordering::Relaxed)
    }

    pub(crate) fn heard(&self) -> Heard {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("no holder panics")
    }
}

/// Whether a vector is a thousand times the nonce.
fn is_all(vector: &Value, nonce: u32) -> bool {
    let Some(numbers) = vector.as_array() else { return false };
    numbers.len() == 1000 && numbers.iter().all(|number| number.as_f64() == Some(f64::from(nonce)))
}

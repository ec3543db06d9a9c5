//! Clients that do not give up: they submit jobs and ask for outputs while things go wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dunnage_testing::history::{Outcome, Output, Refusal, Submission};
use dunnage_testing::http::{Request, Response};
use serde_json::{Value, json};

use crate::fleet::Addresses;
use crate::plan::Plan;

/// After this long a client counts a call as lost.
const CALL_PATIENCE: Duration = Duration::from_secs(3);
/// How long a client waits before it repeats a call.
const PAUSE: Duration = Duration::from_millis(100);
/// Of so many jobs one is submitted once more although it was accepted, as an unsure client would.
const UNSURE_EVERY: usize = 10;
const QUICK_JOB: Duration = Duration::from_millis(3);

/// What the clients of a run share, and what they have heard.
pub(crate) struct Clients<'a> {
    plan: &'a Plan,
    addresses: Addresses,
    /// The address of a file that every call names.
    file: String,
    begin: Instant,
    next: AtomicUsize,
    answered: AtomicUsize,
    has_enough: AtomicBool,
    has_given_up: AtomicBool,
    submissions: Mutex<Vec<Submission>>,
    outputs: Mutex<Vec<Output>>,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(plan: &'a Plan, addresses: Addresses, file: String) -> Self {
        Self {
            plan,
            addresses,
            file,
            begin: Instant::now(),
            next: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            has_enough: AtomicBool::new(false),
            has_given_up: AtomicBool::new(false),
            submissions: Mutex::default(),
            outputs: Mutex::default(),
        }
    }

    /// Submits jobs, each when its time has come, until every one has been accepted, or [`Clients::give_up`].
    pub(crate) fn submit(&self) {
        let interval = self.plan.during / u32::try_from(self.plan.jobs).expect("jobs can be counted");
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.jobs || self.has_given_up.load(Ordering::Relaxed) {
                return;
            }
            let due = self.begin + interval * u32::try_from(number).expect("jobs can be counted");
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let request = self.job(number);
            self.submit_one(number, &request);
            self.answered.fetch_add(1, Ordering::Relaxed);
            if number.is_multiple_of(UNSURE_EVERY) {
                self.submit_one(number, &request);
            }
        }
    }

    /// Repeats the call, with the same key and at one replica after the other, until there is a job or there can be none.
    fn submit_one(&self, number: usize, request: &Request) {
        for repetition in 0.. {
            let outcome = outcome(request.send(self.addresses.pick(number + repetition)));
            self.submissions.lock().expect("no holder panics").push(Submission { key: key(number), outcome: outcome.clone() });
            if is_final(&outcome) || self.has_given_up.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn job(&self, number: usize) -> Request {
        let takes = if number.is_multiple_of(self.plan.slow_every) { self.plan.slow_job } else { QUICK_JOB };
        self.request("/input", &json!({"seconds": takes.as_secs_f64()})).header("Idempotency-Key", &key(number))
    }

    fn request(&self, target: &str, params: &Value) -> Request {
        Request::new("POST", target).json(&json!({"Files": [self.file], "Params": params})).patience(CALL_PATIENCE)
    }

    /// Asks for outputs, one after the other, until [`Clients::have_enough`].
    pub(crate) fn ask(&self, client: u32) {
        for number in (0_u32..).take_while(|_| !self.has_enough.load(Ordering::Relaxed)) {
            let nonce = f64::from(client) * 1e6 + f64::from(number);
            let asked = self.request("/output", &json!({"nonce": nonce})).send(self.addresses.pick(number as usize));
            match asked {
                Ok(response) if response.status == 200 => {
                    let answer = response.json()["outputVector"][0].as_f64().unwrap_or(f64::NAN);
                    self.outputs.lock().expect("no holder panics").push(Output { nonce, answer });
                }
                // Things go wrong, and an output may be refused for it.
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Ends [`Clients::ask`].
    pub(crate) fn have_enough(&self) {
        self.has_enough.store(true, Ordering::Relaxed);
    }

    /// Whether every job has been submitted, and it is known what became of it.
    pub(crate) fn are_content(&self) -> bool {
        self.answered.load(Ordering::Relaxed) == self.plan.jobs
    }

    /// Ends [`Clients::submit`].
    pub(crate) fn give_up(&self) {
        self.has_given_up.store(true, Ordering::Relaxed);
    }

    /// What they have heard.
    pub(crate) fn heard(self) -> (Vec<Submission>, Vec<Output>) {
        let submissions = self.submissions.into_inner().expect("no holder panics");
        (submissions, self.outputs.into_inner().expect("no holder panics"))
    }
}

fn key(number: usize) -> String {
    format!("key {number}")
}

/// Whoever hears of a failure of the server cannot know whether the job was committed before.
fn outcome(answered: std::io::Result<Response>) -> Outcome {
    match answered {
        Ok(response) if response.status == 202 => Outcome::Accepted(dunnage_testing::service::job_id(&response)),
        Ok(response) if response.status < 500 => Outcome::Refused(Refusal::of(&response)),
        Ok(response) => Outcome::Failed(Refusal::of(&response)),
        Err(_) => Outcome::Unknown,
    }
}

/// Whether it makes no sense to repeat the call.
fn is_final(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Accepted(_) => true,
        Outcome::Refused(refusal) => !refusal.is_temporary(),
        Outcome::Failed(_) | Outcome::Unknown => false,
    }
}

//! A service that runs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::census::{self, eventually};
use crate::http::{Request, Response};

/// How long a service may take to be ready, on a machine that is busy with other tests.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a job may take.
const JOB_PATIENCE: Duration = Duration::from_secs(30);
/// How long the kernel may take to end what belonged to a killed service.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// A service that runs. Dropping it kills it, and makes sure that nothing of it is left.
pub struct Service {
    child: Child,
    address: SocketAddr,
    log: Log,
    mark: String,
}

impl Service {
    pub(crate) fn spawn(command: &mut Command, mark: String) -> Self {
        let mut child = command.spawn().expect("the binary can be started");
        let log = Log::default();
        let address = log.follow(child.stderr.take().expect("standard error is piped"));
        let Ok(address) = address.recv_timeout(START_PATIENCE) else {
            let _ = child.kill();
            panic!("the service does not listen; its log:\n{log}");
        };
        Self { child, address, log, mark }
    }

    /// One that does not tell where it listens, on loopback at this port.
    pub(crate) fn unheard(command: &mut Command, mark: String, port: u16) -> Self {
        let child = command.spawn().expect("the binary can be started");
        Self { child, address: (std::net::Ipv4Addr::LOCALHOST, port).into(), log: Log::default(), mark }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's process.
    ///
    /// # Panics
    ///
    /// Never: process numbers are small.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process numbers are small")
    }

    /// The workers it has now, and what it has adopted from them.
    #[must_use]
    pub fn workers(&self) -> Vec<i32> {
        census::children(self.pid()).into_iter().filter(|child| !is_guard(*child)).collect()
    }

    /// The process that looks after what is left when the server is killed.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn guard(&self) -> i32 {
        census::children(self.pid()).into_iter().find(|child| is_guard(*child)).expect("a server has a guard")
    }

    /// Every process that belongs to it, itself and its workers' children included.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        census::marked(&self.mark)
    }

    /// The lines it has logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Sends a request that must be answered, with whatever status.
    ///
    /// # Panics
    ///
    /// When it is not answered so.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        request.send(self.address).unwrap_or_else(|error| panic!("{error} on {request:?}; the log:\n{}", self.log))
    }

    /// Sends a GET, as [`Service::send`] does.
    ///
    /// # Panics
    ///
    /// When it is not answered so.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::new("GET", target))
    }

    /// The sum of a metric over its labels, or over those that have this text in them; 0 when there is none.
    ///
    /// # Panics
    ///
    /// When the metrics are not answered.
    #[track_caller]
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let metrics = self.get("/metrics");
        assert_eq!(metrics.status, 200, "{metrics}");
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(label);
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        metrics.text().lines().filter(is_it).filter_map(value).sum()
    }

    /// How many descriptors the server has open.
    ///
    /// # Panics
    ///
    /// When it has ended.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// How many bytes of memory the server takes up.
    ///
    /// # Panics
    ///
    /// When it has ended.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("it is a number") * 1024
    }

    /// Sends a POST with JSON, as [`Service::send`] does.
    ///
    /// # Panics
    ///
    /// When it is not answered so.
    #[track_caller]
    pub fn post(&self, target: &str, body: &Value) -> Response {
        self.send(&Request::new("POST", target).json(body))
    }

    /// The vector that `/output` answers.
    ///
    /// # Panics
    ///
    /// When another status is answered.
    #[track_caller]
    pub fn output(&self, body: &Value) -> Vec<f64> {
        vector(&self.post("/output", body))
    }

    /// Submits a job, and returns its id.
    ///
    /// # Panics
    ///
    /// When it is not accepted.
    #[track_caller]
    pub fn submit(&self, target: &str, body: &Value) -> String {
        job_id(&self.post(target, body))
    }

    /// What `GET /status` says about a job there is.
    ///
    /// # Panics
    ///
    /// When it is not answered so.
    #[track_caller]
    pub fn status(&self, job: &str) -> Value {
        self.get(&format!("/status?jobId={job}")).expect(200)
    }

    /// Waits until a job's status satisfies `wanted`, and returns it.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    #[track_caller]
    pub fn wait_for(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("job {job}: {what}"), JOB_PATIENCE, || Some(self.status(job)).filter(&wanted))
    }

    /// Waits until a job has ended, and returns its status.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    #[track_caller]
    pub fn ended(&self, job: &str) -> Value {
        self.wait_for(job, "it ends", |status| !matches!(status["state"].as_str(), Some("queued" | "running")))
    }

    /// Submits a job, waits until it is done, and returns its status.
    ///
    /// # Panics
    ///
    /// When it ends otherwise.
    #[track_caller]
    pub fn done(&self, target: &str, body: &Value) -> Value {
        let job = self.submit(target, body);
        let status = self.ended(&job);
        assert_eq!((&status["status"], &status["state"]), (&json!("done"), &json!("done")), "{status}");
        status
    }

    /// The messages of a job's log.
    ///
    /// # Panics
    ///
    /// When there is no such job.
    #[track_caller]
    pub fn job_log(&self, job: &str) -> Vec<Value> {
        let page = self.get(&format!("/jobs/{job}/logs")).expect(200);
        page["lines"].as_array().expect("a page has lines").clone()
    }

    /// Stops every process that belongs to it where it stands, until [`Service::resume`].
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets a paused service go on.
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.processes().into_iter().filter_map(Pid::from_raw) {
            // It may have ended since it was found.
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    ///
    /// When that takes too long, or processes are left.
    pub fn terminate(self) -> (ExitStatus, Log) {
        signal(self.pid(), "TERM");
        self.await_end()
    }

    /// Waits for the end of a service that has been told to end.
    ///
    /// # Panics
    ///
    /// When that takes too long, or processes are left.
    pub fn await_end(mut self) -> (ExitStatus, Log) {
        let status = eventually("the service ends", Duration::from_secs(20), || self.child.try_wait().expect("it is our child"));
        self.require_gone(Duration::ZERO);
        (status, self.log.clone())
    }

    /// Sends SIGKILL, and waits until nothing is left of it, for `patience` at most.
    ///
    /// # Panics
    ///
    /// When it had ended before, or processes are left.
    pub fn kill(mut self, patience: Duration) {
        self.kill_server();
        self.require_gone(patience);
    }

    /// Sends SIGKILL, and returns what is left of it after a while: nothing, if all is well.
    ///
    /// # Panics
    ///
    /// When it had ended before.
    #[must_use]
    pub fn kill_and_count(mut self) -> Vec<String> {
        self.kill_server();
        let deadline = Instant::now() + END_PATIENCE;
        while !self.left().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = self.left();
        self.signal_all(Signal::KILL);
        left
    }

    fn kill_server(&mut self) {
        self.child.kill().expect("it is our child");
        let status = self.child.wait().expect("it is our child");
        assert_eq!(status.signal(), Some(9), "it had ended before it was killed; its log:\n{}", self.log);
    }

    fn left(&self) -> Vec<String> {
        self.processes().iter().map(|pid| format!("{pid}: {}", census::command_line(*pid))).collect()
    }

    fn require_gone(&self, patience: Duration) {
        eventually(&format!("no process is left of {:?}", self.left()), patience, || self.left().is_empty().then_some(()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the service's log:\n{}", self.log);
        } else {
            self.require_gone(END_PATIENCE);
        }
    }
}

/// The vector in an answer of `/output`.
///
/// # Panics
///
/// When it is no such answer.
#[track_caller]
pub fn vector(response: &Response) -> Vec<f64> {
    serde_json::from_value(response.expect(200)["outputVector"].clone()).expect("a vector is a list of numbers")
}

/// The id in the answer to a submitted job.
///
/// # Panics
///
/// When it was not accepted.
#[track_caller]
pub fn job_id(response: &Response) -> String {
    response.expect(202)["jobId"].as_str().expect("an id is a text").to_owned()
}

/// Sends a signal, such as `TERM`, to one process.
///
/// # Panics
///
/// When there is no such process.
pub fn signal(pid: i32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("there is a `kill`");
    assert!(sent.success(), "process {pid} is gone");
}

/// What a service logs, collected while it runs.
#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Collects lines until the stream ends. The address comes as soon as it has been logged.
    fn follow(&self, stream: ChildStderr) -> mpsc::Receiver<SocketAddr> {
        let (found, address) = mpsc::channel();
        let lines = Arc::clone(&self.lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some(address) = listening(&line) {
                    // Whoever waits for it may have given up.
                    let _ = found.send(address);
                }
                lines.lock().expect("no holder panics").push(line);
            }
        });
        address
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no holder panics").clone()
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.lines().join("\n"))
    }
}

/// Whether a process is the guard of a server.
#[must_use]
pub fn is_guard(pid: i32) -> bool {
    census::command_line(pid).ends_with(" guard ")
}

fn listening(line: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["message"] == "listening").then(|| entry["address"].as_str()?.parse().ok())?
}

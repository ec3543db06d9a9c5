//! A service that runs, and what it runs on.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::census::{self, eventually};
use crate::http::{Request, Response};
use crate::language::Language;

const DUNNAGE: &str = env!("CARGO_BIN_EXE_dunnage");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/scripts");
/// What stands beside the binary once everything has been built.
const BUILT_BESIDE: [&str; 3] = ["dunnage-python", "libdunnage_python.so", "dunnage-lua"];
/// How long a service may take to be ready, on a machine that is busy with other tests.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a job may take.
const JOB_PATIENCE: Duration = Duration::from_secs(30);
/// How long the kernel may take to end what belonged to a killed service.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// A script, its folders and its flags. Services started from it one after the other are lives of one and the same.
pub(crate) struct Setup {
    folder: TempDir,
    script: PathBuf,
    serves_local_files: bool,
    port: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// With one of the scripts in `scripts/`.
    pub(crate) fn new(language: Language, name: &str) -> Self {
        let source = Path::new(SCRIPTS).join(name).with_extension(language.extension());
        let text = std::fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        Self::inline(language, name, &text)
    }

    /// With a script that stands in the test.
    pub(crate) fn inline(language: Language, name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = folder.path().join(name).with_extension(language.extension());
        std::fs::write(&script, text).expect("the script can be written");
        std::fs::create_dir(folder.path().join("files")).expect("a folder for files");
        Self { folder, script, serves_local_files: true, port: 0, flags: Vec::new(), environment: Vec::new() }
    }

    /// The same folders and flags with another script beside the first.
    pub(crate) fn with_script(mut self, language: Language, text: &str) -> Self {
        self.script.set_extension(language.extension());
        std::fs::write(&self.script, text).expect("the script can be written");
        self
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// On this port, and not on any that is free.
    pub(crate) fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub(crate) fn without_files_root(self) -> Self {
        Self { serves_local_files: false, ..self }
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn script(&self) -> &Path {
        &self.script
    }

    /// The service's own part of a folder in its data folder.
    pub(crate) fn data(&self, what: &str) -> PathBuf {
        let name = self.script.file_stem().expect("a script has a name");
        self.folder().join("data").join(what).join(name)
    }

    pub(crate) fn files_root(&self) -> PathBuf {
        self.folder().join("files")
    }

    /// Writes a file below the files root, and returns its address.
    pub(crate) fn file(&self, name: &str, contents: &str) -> String {
        let path = self.files_root().join(name);
        std::fs::write(&path, contents).expect("the file can be written");
        format!("file://{}", path.display())
    }

    /// A body with one small file and these `Params`.
    pub(crate) fn body(&self, params: Value) -> Value {
        json!({"Files": [self.file("walk.csv", "1,2,3\n")], "Params": params})
    }

    /// Starts a service and waits until it is ready.
    pub(crate) fn start(&self) -> Service {
        let service = self.launch();
        eventually("the service is ready", START_PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
        service
    }

    /// Starts a service and waits until it listens.
    pub(crate) fn launch(&self) -> Service {
        let mark = next_mark();
        let mut child = self.command(&mark).spawn().expect("the binary can be started");
        let log = Log::default();
        let address = log.follow(child.stderr.take().expect("standard error is piped"));
        let Ok(address) = address.recv_timeout(START_PATIENCE) else {
            let _ = child.kill();
            panic!("the service does not listen; its log:\n{log}");
        };
        Service { child, address, log, mark }
    }

    /// Runs `serve` where it is expected to refuse, and returns how it ended with what it said.
    pub(crate) fn refused(&self) -> (ExitStatus, String) {
        let mark = next_mark();
        let output = self.command(&mark).output().expect("the binary can be started");
        let left = census::marked(&mark);
        assert!(left.is_empty(), "a service that did not start left processes: {left:?}");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn command(&self, mark: &str) -> Command {
        require_built();
        let mut command = Command::new(DUNNAGE);
        let own_settings = |name: &OsStr| name.as_encoded_bytes().starts_with(b"DUNNAGE_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| own_settings(name)) {
            command.env_remove(name);
        }
        let (name, value) = mark.split_once('=').expect("a mark is an entry of the environment");
        command
            .arg("serve")
            .arg(&self.script)
            .args(["--port", &self.port.to_string(), "--log-format", "json", "--log-level", "debug"])
            .args(["--data-dir".as_ref(), self.folder().join("data").as_os_str()])
            .args(&self.flags)
            .current_dir(self.folder())
            .env_remove("VIRTUAL_ENV")
            .env(name, value)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if self.serves_local_files {
            command.arg("--files-root").arg(self.files_root());
        }
        command
    }
}

/// An entry of the environment by which the processes of one service are known. Workers and what they start inherit it.
fn next_mark() -> String {
    static LIVES: AtomicU32 = AtomicU32::new(0);
    format!("SERVICE_UNDER_TEST={}-{}", std::process::id(), LIVES.fetch_add(1, Ordering::Relaxed))
}

fn require_built() {
    let folder = Path::new(DUNNAGE).parent().expect("a binary lies in a folder");
    for name in BUILT_BESIDE {
        assert!(folder.join(name).is_file(), "`{}` is missing; run `cargo build --workspace` first", folder.join(name).display());
    }
}

/// A service that runs. Dropping it kills it, and makes sure that nothing of it is left.
pub(crate) struct Service {
    child: Child,
    address: SocketAddr,
    log: Log,
    mark: String,
}

impl Service {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process numbers are small")
    }

    /// The workers it has now.
    pub(crate) fn workers(&self) -> Vec<i32> {
        census::children(self.pid())
    }

    /// Every process that belongs to it, itself and its workers' children included.
    pub(crate) fn processes(&self) -> Vec<i32> {
        census::marked(&self.mark)
    }

    /// The lines it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Response {
        request.send(self.address).unwrap_or_else(|error| panic!("{error} on {request:?}; the log:\n{}", self.log))
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.send(&Request::new("GET", target))
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &Value) -> Response {
        self.send(&Request::new("POST", target).json(body))
    }

    /// The vector that `/output` answers.
    #[track_caller]
    pub(crate) fn output(&self, body: &Value) -> Vec<f64> {
        vector(&self.post("/output", body))
    }

    /// Submits a job, and returns its id.
    #[track_caller]
    pub(crate) fn submit(&self, target: &str, body: &Value) -> String {
        job_id(&self.post(target, body))
    }

    #[track_caller]
    pub(crate) fn status(&self, job: &str) -> Value {
        self.get(&format!("/status?jobId={job}")).expect(200)
    }

    /// Waits until a job's status satisfies `wanted`, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("job {job}: {what}"), JOB_PATIENCE, || Some(self.status(job)).filter(&wanted))
    }

    /// Waits until a job has ended, and returns its status.
    #[track_caller]
    pub(crate) fn ended(&self, job: &str) -> Value {
        self.wait_for(job, "it ends", |status| !matches!(status["state"].as_str(), Some("queued" | "running")))
    }

    /// Submits a job, waits until it is done, and returns its status.
    #[track_caller]
    pub(crate) fn done(&self, target: &str, body: &Value) -> Value {
        let job = self.submit(target, body);
        let status = self.ended(&job);
        assert_eq!((&status["status"], &status["state"]), (&json!("done"), &json!("done")), "{status}");
        status
    }

    /// The messages of a job's log.
    #[track_caller]
    pub(crate) fn job_log(&self, job: &str) -> Vec<Value> {
        let page = self.get(&format!("/jobs/{job}/logs")).expect(200);
        page["lines"].as_array().expect("a page has lines").clone()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Log) {
        signal(self.pid(), "TERM");
        let status = eventually("the service ends", Duration::from_secs(20), || self.child.try_wait().expect("it is our child"));
        self.require_gone(Duration::ZERO);
        (status, self.log.clone())
    }

    /// Sends SIGKILL, and waits until nothing is left of it, for `patience` at most.
    pub(crate) fn kill(mut self, patience: Duration) {
        self.child.kill().expect("it is our child");
        let status = self.child.wait().expect("it is our child");
        assert_eq!(status.signal(), Some(9), "it had ended before it was killed; its log:\n{}", self.log);
        self.require_gone(patience);
    }

    fn require_gone(&self, patience: Duration) {
        let left =
            || census::marked(&self.mark).iter().map(|pid| format!("{pid}: {}", census::command_line(*pid))).collect::<Vec<_>>();
        eventually(&format!("no process is left of {:?}", left()), patience, || left().is_empty().then_some(()));
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
#[track_caller]
pub(crate) fn vector(response: &Response) -> Vec<f64> {
    serde_json::from_value(response.expect(200)["outputVector"].clone()).expect("a vector is a list of numbers")
}

/// The id in the answer to a submitted job.
#[track_caller]
pub(crate) fn job_id(response: &Response) -> String {
    response.expect(202)["jobId"].as_str().expect("an id is a text").to_owned()
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: i32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("there is a `kill`");
    assert!(sent.success(), "process {pid} is gone");
}

/// What a service logs, collected while it runs.
#[derive(Clone, Default)]
pub(crate) struct Log {
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

fn listening(line: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["message"] == "listening").then(|| entry["address"].as_str()?.parse().ok())?
}

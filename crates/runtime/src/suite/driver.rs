//! The server's side of the protocol, as small as a test needs it.

use std::collections::BTreeMap;
use std::fs::File as DiskFile;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dunnage_protocol::{
    Answer, Artifact, Ask, AskError, CallError, CallId, Cancel, Done, File, Functions, Hello, Item, Load, LogMessage, Operation,
    Outcome, Output, Outputs, ProgressMessage, Reply, ReplyOutcome, Request, Role, Run, StateEntry, ToServer, ToWorker, read_frame,
};
use dunnage_types::{JobId, JobKind, JsonObject, StateValue, VectorType, WorkerId};
use serde_json::{Number, Value};
use tempfile::TempDir;

use super::Subject;

/// How long a runtime may take for anything in the suite before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A value longer than this is refused.
const MAX_VALUE_BYTES: usize = 1000;

/// A worker under test, with an in-memory server around it.
pub struct Driver {
    child: Child,
    socket: UnixStream,
    reader: BufReader<UnixStream>,
    stdout: ChildStdout,
    printed: Vec<u8>,
    folder: TempDir,
    state: BTreeMap<String, StateValue>,
    last_call: u64,
    /// What the worker said of itself.
    pub hello: Hello,
    /// The functions of the script, once it is loaded.
    pub functions: Functions,
    /// Every progress message so far.
    pub progress: Vec<ProgressMessage>,
    /// Every log line so far.
    pub log: Vec<LogMessage>,
}

impl Driver {
    /// Starts the subject and loads the scenario's script, which must succeed.
    pub fn start(subject: &Subject, scenario: &str) -> Self {
        Self::start_with(subject, scenario, None)
    }

    /// Like [`Driver::start`], with an active artifact.
    pub fn start_with(subject: &Subject, scenario: &str, artifact: Option<&Path>) -> Self {
        let mut driver = Self::spawn(subject);
        match driver.load(&subject.script(scenario), artifact) {
            Ok(functions) => driver.functions = functions,
            Err(error) => panic!("{scenario} should load, but: {error:?}"),
        }
        driver
    }

    /// Starts the subject and waits for its hello.
    pub fn spawn(subject: &Subject) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        // The shell moves the socket from descriptor 0 to 3, which `Command` alone cannot do.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 0</dev/null", "sh"])
            .args(&subject.command)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the runtime starts");
        let stdout = child.stdout.take().expect("a pipe");
        rustix::io::ioctl_fionbio(&stdout, true).expect("a pipe that does not block");
        let mut driver = Self {
            child,
            reader: BufReader::new(ours.try_clone().expect("a second handle")),
            socket: ours,
            stdout,
            printed: Vec::new(),
            folder: TempDir::new().expect("a temporary folder"),
            state: BTreeMap::new(),
            last_call: 0,
            hello: Hello {
                protocol: 0,
                runtime: String::new(),
                version: String::new(),
                language: String::new(),
                capabilities: Vec::new(),
            },
            functions: Functions::default(),
            progress: Vec::new(),
            log: Vec::new(),
        };
        match driver.receive() {
            ToServer::Hello(hello) => driver.hello = hello,
            other => panic!("the first message should be a hello, but is {other:?}"),
        }
        driver
    }

    /// Loads a script; its functions, or how it failed.
    ///
    /// # Errors
    ///
    /// What the worker said in `LoadFailed`.
    pub fn load(&mut self, script: &Path, artifact: Option<&Path>) -> Result<Functions, CallError> {
        self.send(&ToWorker::Load(Load {
            service: "suite".parse().expect("a service name"),
            worker: WorkerId(1),
            role: Role::Serving,
            script: script.to_owned(),
            artifact: artifact.map(|path| Artifact { version: 1, path: path.to_owned() }),
            device: "cpu".to_owned(),
            descriptors: false,
        }));
        match self.receive_answer() {
            ToServer::Loaded(loaded) => Ok(loaded.functions),
            ToServer::LoadFailed(failed) => Err(failed.error),
            other => panic!("after a load there should be no {other:?}"),
        }
    }

    /// Whether the runtime has an ability; says so on standard error when it has not.
    #[must_use]
    pub fn can(&self, ability: &str) -> bool {
        let can = self.hello.capabilities.iter().any(|capability| capability == ability);
        if !can {
            eprintln!("skipped: {} has no `{ability}`", self.hello.runtime);
        }
        can
    }

    /// Writes a file for the script to read.
    #[must_use]
    pub fn file(&self, name: &str, contents: &[u8]) -> File {
        let path = self.folder.path().join(name);
        DiskFile::create(&path).and_then(|mut file| file.write_all(contents)).expect("a file");
        File { uri: format!("s3://suite/{name}"), path, size: contents.len() as u64, etag: None }
    }

    /// Answers a batch, one vector or failure a request.
    pub fn output(&mut self, requests: Vec<Request>) -> Vec<Result<Vec<f64>, CallError>> {
        let call = self.next_call();
        let count = requests.len();
        self.send(&ToWorker::Output(Output { call, deadline: None, limit: None, requests }));
        match self.receive_answer() {
            ToServer::Outputs(outputs, payload) => {
                assert_eq!(outputs.call, call, "the worker answers the call it was given");
                assert_eq!(outputs.items.len(), count, "one answer a request");
                vectors(outputs, &payload)
            }
            other => panic!("an output should not be answered by {other:?}"),
        }
    }

    /// Begins a job and returns its call, to be waited for with [`Driver::finish`].
    pub fn begin(&mut self, kind: JobKind, files: Vec<File>, params: JsonObject) -> CallId {
        let call = self.next_call();
        let job = JobId::random();
        let run = Run { call, deadline: None, kind, job, attempt: 1, seed: job.seed(), files, params };
        self.send(&ToWorker::Run(run));
        call
    }

    /// Waits for the end of a job.
    ///
    /// # Errors
    ///
    /// The script's failure.
    pub fn finish(&mut self, call: CallId) -> Result<Value, CallError> {
        match self.receive_answer() {
            ToServer::Done(Done { call: done, outcome }) => {
                assert_eq!(done, call, "the worker ends the job it was given");
                match outcome {
                    Outcome::Ok(value) => Ok(value),
                    Outcome::Error(error) => Err(error),
                }
            }
            other => panic!("a job should not be answered by {other:?}"),
        }
    }

    /// Runs a job to its end.
    ///
    /// # Errors
    ///
    /// The script's failure.
    pub fn run(&mut self, kind: JobKind, files: Vec<File>, params: JsonObject) -> Result<Value, CallError> {
        let call = self.begin(kind, files, params);
        self.finish(call)
    }

    /// Waits until the script has reported progress.
    pub fn await_progress(&mut self) {
        while self.progress.is_empty() {
            let message = self.receive();
            assert!(self.absorb(message).is_none(), "the job should report progress before it ends");
        }
    }

    /// Cancels a call.
    pub fn cancel(&mut self, call: CallId) {
        self.send(&ToWorker::Cancel(Cancel { call }));
    }

    /// What the worker has printed by now. Nothing is waited for: what belongs to a call is there before its answer.
    #[must_use]
    pub fn printed(&mut self) -> String {
        match self.stdout.read_to_end(&mut self.printed) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("the worker's output cannot be read: {error}"),
            _ => String::from_utf8_lossy(&self.printed).into_owned(),
        }
    }

    /// The folder given out by `new_artifact`.
    #[must_use]
    pub fn artifact(&self) -> PathBuf {
        self.folder.path().join("artifact")
    }

    /// Closes the connection and waits for the worker to end.
    #[must_use]
    pub fn close(mut self) -> ExitStatus {
        self.socket.shutdown(std::net::Shutdown::Both).expect("the socket closes");
        wait(&mut self.child)
    }

    fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    fn send(&mut self, message: &ToWorker) {
        let bytes = message.to_frame().expect("a frame").to_bytes().expect("bytes");
        self.socket.write_all(&bytes).expect("the worker reads");
    }

    fn receive(&mut self) -> ToServer {
        let frame = read_frame(&mut self.reader).expect("a frame in time").expect("the worker does not hang up");
        ToServer::from_frame(&frame).expect("a message")
    }

    /// The next message that answers something, having served every question before it.
    fn receive_answer(&mut self) -> ToServer {
        loop {
            let message = self.receive();
            if let Some(answer) = self.absorb(message) {
                return answer;
            }
        }
    }

    fn absorb(&mut self, message: ToServer) -> Option<ToServer> {
        match message {
            ToServer::Progress(progress) => self.progress.push(progress),
            ToServer::Log(log) => self.log.push(log),
            ToServer::Ask(Ask { ask, operation, .. }) => {
                let outcome = self.answer(operation).map_or_else(ReplyOutcome::Error, ReplyOutcome::Ok);
                self.send(&ToWorker::Reply(Reply { ask, outcome }));
            }
            answer => return Some(answer),
        }
        None
    }

    fn answer(&mut self, operation: Operation) -> Result<Answer, AskError> {
        match operation {
            Operation::StateGet { key } => Ok(Answer::Value(self.state.get(&key).cloned())),
            Operation::StateSet { value, .. } if value.size() > MAX_VALUE_BYTES => Err(AskError {
                code: "value_too_large".to_owned(),
                message: format!("the value has {} bytes; at most {MAX_VALUE_BYTES} are allowed", value.size()),
            }),
            Operation::StateSet { key, value } => {
                self.state.insert(key, value);
                Ok(Answer::Nothing)
            }
            Operation::StateDelete { key } => Ok(Answer::Flag(self.state.remove(&key).is_some())),
            Operation::StateIncrement { key, by } => self.increment(key, &by),
            Operation::StateCompareAndSet { key, old, new } => Ok(Answer::Flag(self.compare_and_set(key, old.as_ref(), new))),
            Operation::StateScan { prefix, after, limit } => Ok(Answer::Entries(self.scan(&prefix, after.as_deref(), limit))),
            Operation::NewArtifact => {
                std::fs::create_dir_all(self.artifact()).expect("a folder");
                Ok(Answer::Path(self.artifact()))
            }
        }
    }

    fn increment(&mut self, key: String, by: &Number) -> Result<Answer, AskError> {
        let old = match self.state.get(&key) {
            None => Some(0.0),
            Some(StateValue::Json(Value::Number(number))) => number.as_f64(),
            Some(_) => None,
        };
        let refused = || AskError { code: "not_a_number".to_owned(), message: format!("`{key}` holds no number") };
        let sum = old.zip(by.as_f64()).map(|(old, by)| old + by).ok_or_else(refused)?;
        #[expect(clippy::cast_possible_truncation, reason = "the suite adds small numbers")]
        let sum = if sum.fract() == 0.0 { Some(Number::from(sum as i64)) } else { Number::from_f64(sum) };
        let sum = sum.expect("a finite sum");
        self.state.insert(key, StateValue::Json(Value::Number(sum.clone())));
        Ok(Answer::Number(sum))
    }

    fn compare_and_set(&mut self, key: String, old: Option<&StateValue>, new: Option<StateValue>) -> bool {
        let matches = match (self.state.get(&key), old) {
            (None, None) => true,
            (Some(found), Some(expected)) => found.same_as(expected),
            _ => false,
        };
        if matches {
            match new {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        matches
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<StateEntry> {
        self.state
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after))
            .take(limit as usize)
            .map(|(key, value)| StateEntry { key: key.clone(), value: value.clone() })
            .collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Only a failed test leaves a worker behind; it is killed and reaped here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Splits a payload into the vectors that `outputs` announces.
fn vectors(outputs: Outputs, payload: &[u8]) -> Vec<Result<Vec<f64>, CallError>> {
    let mut rest = payload;
    let mut take = |item: Item| match item {
        Item::Vector(layout) => {
            let length = usize::try_from(layout.length).expect("a length") * layout.dtype.size();
            let (bytes, tail) = rest.split_at_checked(length).expect("as many bytes as announced");
            rest = tail;
            Ok(bytes.chunks_exact(layout.dtype.size()).map(|element| number(layout.dtype, element)).collect())
        }
        Item::Error(error) => Err(error),
    };
    let vectors = outputs.items.into_iter().map(&mut take).collect();
    assert!(rest.is_empty(), "no bytes beyond those announced");
    vectors
}

#[expect(clippy::cast_precision_loss, reason = "the suite uses small integers")]
fn number(dtype: VectorType, element: &[u8]) -> f64 {
    match dtype {
        VectorType::F32 => f32::from_le_bytes(element.try_into().expect("4 bytes")).into(),
        VectorType::F64 => f64::from_le_bytes(element.try_into().expect("8 bytes")),
        VectorType::I64 => i64::from_le_bytes(element.try_into().expect("8 bytes")) as f64,
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            return status;
        }
        assert!(begin.elapsed() < PATIENCE, "the worker should exit when the server closes the connection");
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! The worker loop: hello, load, then one call after the other until the server closes the connection.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dunnage_protocol::{
    CallError, Done, Functions, Hello, Item, Load, LoadFailed, Loaded, MessageError, Outcome, Output, Outputs, PROTOCOL_VERSION,
    RETURNS, Role, Run, ToServer, ToWorker,
};

use crate::aside::Aside;
use crate::backend::{Answers, Backend};
use crate::connection::{Connection, ConnectionError};
use crate::flush::Flush;
use crate::host::Host;

/// Speaks the protocol on `stream` for `backend`, until the server closes the connection.
///
/// # Errors
///
/// [`WorkerError`] if the script could not be loaded or the connection failed. The process should then exit with a code
/// other than zero.
pub fn serve(stream: UnixStream, backend: &mut impl Backend) -> Result<(), WorkerError> {
    let connection = Arc::new(Connection::new(stream).map_err(ConnectionError::from)?);
    let mut worker =
        Worker { host: Host::new(Arc::clone(&connection)), connection, flush: Flush::new(Instant::now()), descriptors: false };
    worker.greet(backend)?;
    let Some(load) = worker.receive_load()? else { return Ok(()) };
    worker.descriptors = load.descriptors;
    worker.load(backend, &load)?;
    let mut aside = Aside::new(Arc::clone(&worker.connection));
    while let Some(message) = worker.next_call(backend)? {
        aside.begin();
        match message {
            ToWorker::Output(output) => worker.output(backend, &begun(output))?,
            ToWorker::Run(run) => worker.run(backend, &run)?,
            _ => return Err(WorkerError::OutOfOrder),
        }
    }
    Ok(())
}

struct Worker {
    connection: Arc<Connection>,
    host: Host,
    flush: Flush,
    /// Whether the server takes payloads in descriptors.
    descriptors: bool,
}

impl Worker {
    fn greet(&self, backend: &impl Backend) -> Result<(), ConnectionError> {
        let identity = backend.identity();
        self.connection.send(&ToServer::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            runtime: identity.runtime,
            version: identity.version,
            language: identity.language,
            capabilities: ["state", "artifacts", "cancel", RETURNS].map(str::to_owned).to_vec(),
        }))
    }

    fn receive_load(&self) -> Result<Option<Load>, WorkerError> {
        match self.connection.next_call()? {
            Some(ToWorker::Load(load)) => Ok(Some(load)),
            Some(_) => Err(WorkerError::OutOfOrder),
            None => Ok(None),
        }
    }

    fn load(&mut self, backend: &mut impl Backend, load: &Load) -> Result<(), WorkerError> {
        let loaded = self.load_and_test(backend, load);
        self.flush.at_once(backend, Instant::now());
        match loaded {
            Ok(functions) => Ok(self.connection.send(&ToServer::Loaded(Loaded { functions }))?),
            Err(error) => {
                let message = error.message.clone();
                self.connection.send(&ToServer::LoadFailed(LoadFailed { error }))?;
                Err(WorkerError::Load(message))
            }
        }
    }

    /// Where a version answers requests it has to pass the script's own test first; for jobs alone that would be time lost.
    fn load_and_test(&self, backend: &mut impl Backend, load: &Load) -> Result<Functions, CallError> {
        let functions = backend.load(load, &self.host)?;
        if functions.self_test && load.role == Role::Serving {
            self.test(backend)?;
        }
        Ok(functions)
    }

    fn test(&self, backend: &mut impl Backend) -> Result<(), CallError> {
        let failed = |message: String| CallError::new("self_test_failed", message);
        match backend.self_test(&self.host) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed("`self_test` returned false".to_owned())),
            Err(error) => {
                let message = format!("`self_test` failed: {}", error.message);
                Err(CallError { traceback: error.traceback, ..failed(message) })
            }
        }
    }

    /// Waits for the next call, with nothing left to flush.
    fn next_call(&mut self, backend: &mut impl Backend) -> Result<Option<ToWorker>, ConnectionError> {
        if self.flush.is_owed() {
            if let Some(call) = self.connection.next_call_read()? {
                return Ok(Some(call));
            }
            // The calls that were seen to wait have been handed back.
            self.flush.at_once(backend, Instant::now());
        }
        self.connection.next_call()
    }

    fn output(&mut self, backend: &mut impl Backend, output: &Output) -> Result<(), ConnectionError> {
        let host = self.host.call(output.call);
        let mut answers = Answers::new(self.descriptors);
        backend.output(output, &host, &mut answers);
        host.end();
        self.flush.between_calls(backend, self.connection.has_more(), Instant::now());
        let (items, payload) = answers.finish(output.requests.len())?;
        let (call, count) = (output.call, items.len());
        let sent = self.connection.send_outputs(Outputs { call, items }, payload);
        self.unless_too_long(sent, |error| {
            ToServer::Outputs(Outputs { call, items: vec![Item::Error(CallError::new("bad_output", error)); count] }, Bytes::new())
        })
    }

    fn run(&mut self, backend: &mut impl Backend, run: &Run) -> Result<(), ConnectionError> {
        let host = self.host.call(run.call);
        let result = backend.run(run, &host);
        host.end();
        self.flush.at_once(backend, Instant::now());
        let outcome = result.map_or_else(Outcome::Error, Outcome::Ok);
        let sent = self.connection.send(&ToServer::Done(Done { call: run.call, outcome }));
        self.unless_too_long(sent, |error| {
            ToServer::Done(Done { call: run.call, outcome: Outcome::Error(CallError::new("bad_result", error)) })
        })
    }

    /// An answer that fits no frame is the script's failure, not the worker's: a short one goes instead.
    fn unless_too_long(
        &self,
        sent: Result<(), ConnectionError>,
        instead: impl FnOnce(String) -> ToServer,
    ) -> Result<(), ConnectionError> {
        match sent {
            Err(ConnectionError::Message(MessageError::Frame(error))) => self.connection.send(&instead(error.to_string())),
            other => other,
        }
    }
}

/// A call that begins now. One that was sent ahead has waited for its turn, which is not taken off its time.
fn begun(output: Output) -> Output {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Output { deadline: output.limit.map(|limit| now + limit).or(output.deadline), ..output }
}

/// Why a worker ended before its server wanted it to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The script cannot be loaded; the server knows.
    #[error("the script cannot be loaded: {0}")]
    Load(String),
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server broke the order of messages.
    #[error("the server sent a message out of order")]
    OutOfOrder,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use dunnage_protocol::{CallId, MAX_HEADER_BYTES, read_frame};
    use dunnage_types::{JobId, JobKind, JsonObject, WorkerId};
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::Identity;
    use crate::flush::tests::Noting;
    use crate::host::CallHost;

    struct Verbose;

    impl Backend for Verbose {
        fn identity(&self) -> Identity {
            Identity { runtime: "verbose".into(), version: "0".into(), language: "none".into() }
        }

        fn load(&mut self, _load: &Load, _host: &Host) -> Result<Functions, CallError> {
            Ok(Functions::default())
        }

        fn output(&mut self, _output: &Output, _host: &CallHost, _answers: &mut Answers) {}

        fn run(&mut self, _run: &Run, _host: &CallHost) -> Result<Value, CallError> {
            Ok(json!("x".repeat(MAX_HEADER_BYTES)))
        }
    }

    /// A script whose test ends so.
    struct Tested(Result<bool, CallError>);

    impl Backend for Tested {
        fn identity(&self) -> Identity {
            Verbose.identity()
        }

        fn load(&mut self, _load: &Load, _host: &Host) -> Result<Functions, CallError> {
            Ok(Functions { self_test: true, ..Functions::default() })
        }

        fn self_test(&mut self, _host: &Host) -> Result<bool, CallError> {
            self.0.clone()
        }

        fn output(&mut self, _output: &Output, _host: &CallHost, _answers: &mut Answers) {}

        fn run(&mut self, _run: &Run, _host: &CallHost) -> Result<Value, CallError> {
            Ok(Value::Null)
        }
    }

    /// What a worker of this role is told to load.
    pub(crate) fn load(role: Role) -> Load {
        Load {
            service: "s".parse().unwrap(),
            worker: WorkerId(1),
            role,
            script: "/s".into(),
            artifact: None,
            device: "cpu".into(),
            descriptors: true,
        }
    }

    /// What the worker answers to `Load`.
    fn answer_to_load(role: Role, test: Result<bool, CallError>) -> ToServer {
        let (mut server, worker) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || serve(worker, &mut Tested(test)));
        server.write_all(&ToWorker::Load(load(role)).to_frame().unwrap().to_bytes().unwrap()).unwrap();
        let mut receive = || ToServer::from_frame(&read_frame(&mut server).unwrap().unwrap()).unwrap();
        assert!(matches!(receive(), ToServer::Hello(_)));
        let answer = receive();
        drop(server);
        let ended = serving.join().unwrap();
        assert_eq!(ended.is_ok(), matches!(answer, ToServer::Loaded(_)), "{ended:?}");
        answer
    }

    #[test]
    fn a_serving_worker_is_loaded_once_its_script_has_passed_its_own_test() {
        assert!(matches!(answer_to_load(Role::Serving, Ok(true)), ToServer::Loaded(_)));
        let raised = CallError {
            traceback: Some("line 3".to_owned()),
            retry_after: Some(1.0),
            ..CallError::new("script_retry", "the golden input scored 0.3")
        };
        for (test, message, traceback) in [
            (Ok(false), "`self_test` returned false", None),
            (Err(raised), "`self_test` failed: the golden input scored 0.3", Some("line 3")),
        ] {
            let ToServer::LoadFailed(failed) = answer_to_load(Role::Serving, test) else { panic!("it did not pass") };
            let expected = CallError { traceback: traceback.map(str::to_owned), ..CallError::new("self_test_failed", message) };
            assert_eq!(failed.error, expected);
        }
    }

    #[test]
    fn a_worker_that_only_runs_jobs_is_spared_the_scripts_test() {
        assert!(matches!(answer_to_load(Role::Job, Ok(false)), ToServer::Loaded(_)));
    }

    #[test]
    fn a_result_that_fits_no_frame_fails_the_job_and_not_the_worker() {
        let (mut server, worker) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || serve(worker, &mut Verbose));
        let job = JobId::random();
        let run = Run {
            call: CallId(1),
            deadline: None,
            kind: JobKind::Train,
            job,
            attempt: 1,
            seed: 0,
            files: vec![],
            params: JsonObject::new(),
        };
        for message in [ToWorker::Load(load(Role::Job)), ToWorker::Run(run)] {
            server.write_all(&message.to_frame().unwrap().to_bytes().unwrap()).unwrap();
        }
        let mut receive = || ToServer::from_frame(&read_frame(&mut server).unwrap().unwrap()).unwrap();
        assert!(matches!(receive(), ToServer::Hello(_)));
        assert!(matches!(receive(), ToServer::Loaded(_)));
        assert!(matches!(receive(), ToServer::Done(Done { outcome: Outcome::Error(error), .. }) if error.code == "bad_result"));
        drop(server);
        serving.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_left_to_flush_is_flushed_before_a_worker_waits() {
        let (server, end) = UnixStream::pair().unwrap();
        let connection = Arc::new(Connection::new(end).unwrap());
        let mut worker =
            Worker { host: Host::new(Arc::clone(&connection)), connection, flush: Flush::new(Instant::now()), descriptors: false };
        let mut backend = Noting::default();
        // The call that was seen to wait has been handed back since.
        worker.flush.between_calls(&mut backend, true, Instant::now());
        assert!(backend.0.is_empty());
        drop(server);
        assert!(worker.next_call(&mut backend).unwrap().is_none());
        assert_eq!(backend.0, ["flush"]);
    }
}

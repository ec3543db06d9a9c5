//! One worker: a child process that has loaded the script and runs one call at a time, in the order in which they come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunnage_protocol::{
    CallError, CallId, Done, Functions, GivenOutput, Hello, Load, Outcome, Outputs, PROTOCOL_VERSION, RETURNS, Request, Run,
    ToServer, ToWorker,
};
use dunnage_types::Vector;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::vectors;
use crate::connection::Connection;
use crate::conversation::{Asker, Channel, Terms, unexpected};
use crate::device::lasting_failure;
use crate::exit::{Exit, Lost, Reason};
use crate::host::Host;
use crate::interrupt::Interrupt;
use crate::launch::{Launched, Launcher};
use crate::lines::Lines;
use crate::process::Process;
use crate::program::Runtime;

/// How long a worker that has been told to go may take before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A worker that has loaded the script. Dropping it kills the process and whatever it started.
pub struct Worker {
    pub(crate) channel: Channel,
    started: Started,
    hands_back: bool,
}

/// What a worker said of itself while it started.
#[derive(Debug, Clone)]
pub struct Started {
    /// Who it is.
    pub hello: Hello,
    /// The script's functions.
    pub functions: Functions,
    /// From when the worker was wanted until the script was loaded.
    pub load_time: Duration,
}

impl Worker {
    /// Starts a process, greets it, and has it load the script.
    ///
    /// `host` answers what the script asks while it loads, and takes the lines that belong to no call.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the process is then gone.
    pub async fn start(
        launcher: &Launcher,
        runtime: &Runtime,
        load: Load,
        timeout: Duration,
        host: Arc<dyn Host>,
    ) -> Result<Self, StartError> {
        let begin = Instant::now();
        let deadline = begin + timeout;
        let mut worker = Self::launch(launcher, runtime, &load, host).await?;
        worker.greet(deadline).await?;
        worker.started.functions = worker.load(load, deadline).await?;
        worker.started.load_time = begin.elapsed();
        Ok(worker)
    }

    /// What the worker said while it started.
    #[must_use]
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Whether it hands back what waits behind a call that drags on.
    pub(crate) fn hands_back(&self) -> bool {
        self.hands_back
    }

    /// The process's number, for logs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.channel.process.as_ref().map(Process::id)
    }

    /// Passes on what the worker prints while it has nothing to do. Returns only when the worker must be buried, and how it
    /// is to be ended; may be dropped and called again.
    pub async fn idle(&mut self) -> Option<Exit> {
        let host = Arc::clone(&self.channel.host);
        let terms = Terms { host: &*host, asker: Asker::Nobody, deadline: None, interrupt: None };
        match self.channel.converse(terms).await {
            Ok(message) => Some(unexpected(&message)),
            Err(exit) => exit,
        }
    }

    /// Ends and reaps a worker that is lost; `exit` is what [`Worker::idle`] returned.
    pub async fn bury(mut self, exit: Option<Exit>) -> Lost {
        let host = Arc::clone(&self.channel.host);
        self.channel.lose(exit, &*host).await
    }

    /// Has the script answer a batch of requests, one answer each.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the worker died, or was killed at the deadline; the worker is then of no further use.
    pub async fn output(
        &mut self,
        requests: Vec<Request>,
        deadline: Instant,
        host: &dyn Host,
    ) -> Result<Vec<Result<Vector<Bytes>, CallError>>, Lost> {
        let count = requests.len();
        let call = match self.give(&requests.iter().collect::<Vec<_>>(), deadline) {
            Ok(call) => call,
            Err(exit) => return Err(self.channel.lose(Some(exit), host).await),
        };
        let terms = Terms { host, asker: Asker::Call(call), deadline: Some(deadline), interrupt: None };
        match self.channel.converse(terms).await {
            Ok(message) => match read_answer(message, call, count) {
                Ok(vectors) => Ok(vectors),
                Err(exit) => Err(self.channel.lose(Some(exit), host).await),
            },
            Err(end) => Err(self.channel.lose(end, host).await),
        }
    }

    /// Has the script answer a batch of requests when it has answered those before; what it says is heard over the channel, which
    /// also does the sending. The error is why the call cannot be sent.
    pub(crate) fn give(&mut self, requests: &[&Request], deadline: Instant) -> Result<CallId, Exit> {
        let call = next_call();
        let limit = seconds_until(deadline);
        let output = GivenOutput { call, deadline: Some(unix_seconds(limit)), limit: Some(limit), requests };
        self.channel.connection.enqueue_output(output).map_err(|error| Exit::Protocol(error.to_string()))?;
        Ok(call)
    }

    /// Has the script run one attempt at a job. Everything the attempt printed has reached `host` when this returns.
    ///
    /// `run.call` and `run.deadline` are filled in here. A cancellation gives the script `cancel_grace` to stop by itself.
    ///
    /// # Errors
    ///
    /// [`Lost`] if the worker died or was ended; the worker is then of no further use.
    pub async fn run(
        &mut self,
        run: Run,
        deadline: Instant,
        host: &dyn Host,
        interrupt: &mut watch::Receiver<Interrupt>,
        cancel_grace: Duration,
    ) -> Result<Outcome, Lost> {
        // A wish that was there before the call began counts too.
        interrupt.mark_changed();
        let call = next_call();
        let message = ToWorker::Run(Run { call, deadline: Some(unix_seconds(seconds_until(deadline))), ..run });
        let terms = Terms { host, asker: Asker::Call(call), deadline: Some(deadline), interrupt: Some((interrupt, cancel_grace)) };
        match self.channel.call(&message, terms).await {
            Ok(ToServer::Done(Done { call: done, outcome })) if done == call => {
                if let Some(failure) = poisoned(&outcome) {
                    return Err(self.channel.lose(Some(Exit::Device(failure)), host).await);
                }
                self.channel.lines.drain().into_iter().for_each(|line| host.line(line));
                Ok(outcome)
            }
            Ok(message) => Err(self.channel.lose(Some(unexpected(&message)), host).await),
            Err(end) => Err(self.channel.lose(end, host).await),
        }
    }

    /// Lets the worker go: it is told to end, and killed if it has not done so soon.
    pub async fn stop(mut self) {
        self.channel.connection.close().await;
        if let Some(process) = self.channel.process.take() {
            if !process.ended_within(STOP_PATIENCE).await {
                tracing::warn!(pid = process.id(), "a worker did not end when it was told to; killing it");
            }
            for line in self.channel.lines.drain() {
                self.channel.host.line(line);
            }
            if let Err(error) = process.end().await {
                tracing::warn!(%error, "a worker could not be reaped");
            }
        }
    }

    async fn launch(launcher: &Launcher, runtime: &Runtime, load: &Load, host: Arc<dyn Host>) -> Result<Self, StartError> {
        let program = runtime.program.display().to_string();
        let cannot_start = |source| StartError::Launch { program: program.clone(), source };
        let Launched { process, socket, stdout, stderr } = launcher.launch(runtime, &load.script).await.map_err(cannot_start)?;
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            runtime: program.clone(),
            version: String::new(),
            language: String::new(),
            capabilities: Vec::new(),
        };
        let channel = Channel {
            process: Some(process),
            connection: Connection::new(socket).map_err(cannot_start)?,
            lines: Lines::new(stdout.into(), stderr.into()).map_err(cannot_start)?,
            host,
        };
        let started = Started { hello, functions: Functions::default(), load_time: Duration::ZERO };
        Ok(Self { channel, started, hands_back: false })
    }

    async fn greet(&mut self, deadline: Instant) -> Result<(), StartError> {
        match self.answer_to(None, deadline).await? {
            ToServer::Hello(hello) if hello.protocol == PROTOCOL_VERSION => {
                self.hands_back = hello.capabilities.iter().any(|word| word == RETURNS);
                self.started.hello = hello;
                Ok(())
            }
            ToServer::Hello(hello) => Err(StartError::Protocol { found: hello.protocol, runtime: hello.runtime }),
            message => Err(self.refuse(&message).await),
        }
    }

    async fn load(&mut self, load: Load, deadline: Instant) -> Result<Functions, StartError> {
        match self.answer_to(Some(ToWorker::Load(load)), deadline).await? {
            ToServer::Loaded(loaded) => {
                self.channel.lines.drain().into_iter().for_each(|line| self.channel.host.line(line));
                Ok(loaded.functions)
            }
            ToServer::LoadFailed(failed) => {
                self.channel.lines.drain().into_iter().for_each(|line| self.channel.host.line(line));
                Err(StartError::Script(failed.error))
            }
            message => Err(self.refuse(&message).await),
        }
    }

    async fn answer_to(&mut self, message: Option<ToWorker>, deadline: Instant) -> Result<ToServer, StartError> {
        let host = Arc::clone(&self.channel.host);
        let terms = Terms { host: &*host, asker: Asker::Loading, deadline: Some(deadline), interrupt: None };
        let answer = match message {
            Some(message) => self.channel.call(&message, terms).await,
            None => self.channel.converse(terms).await,
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(end) => Err(StartError::Lost { lost: self.channel.lose(end, &*host).await }),
        }
    }

    async fn refuse(&mut self, message: &ToServer) -> StartError {
        let host = Arc::clone(&self.channel.host);
        StartError::Lost { lost: self.channel.lose(Some(unexpected(message)), &*host).await }
    }
}

/// A number that cannot be guessed: an answer that is sent before its call has come fits none. Languages that know no integers but
/// those in floating-point numbers can hold it.
fn next_call() -> CallId {
    CallId(rand::random_range(1..1 << 53))
}

/// The vectors in the answer to so many requests of this call. The error is how a worker is to be ended that has sent something else.
pub(crate) fn read_answer(message: ToServer, call: CallId, count: usize) -> Result<Vec<Result<Vector<Bytes>, CallError>>, Exit> {
    match message {
        ToServer::Outputs(outputs, payload) if answers(&outputs, call, count) => {
            vectors(outputs, payload).and_then(refuse_poisoned)
        }
        message => Err(unexpected(&message)),
    }
}

/// Whether these are the answers to so many requests of this call, and no others.
fn answers(outputs: &Outputs, call: CallId, count: usize) -> bool {
    outputs.call == call && outputs.items.len() == count
}

/// Answers, unless one of them says that the device is lost: then none of them is to be trusted.
fn refuse_poisoned(vectors: Vec<Result<Vector<Bytes>, CallError>>) -> Result<Vec<Result<Vector<Bytes>, CallError>>, Exit> {
    let failure = vectors.iter().filter_map(|vector| vector.as_ref().err()).find_map(lasting_failure);
    failure.map_or(Ok(vectors), |failure| Err(Exit::Device(failure)))
}

/// Why the worker can do no more work, if a job's outcome says so.
fn poisoned(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Ok(_) => None,
        Outcome::Error(error) => lasting_failure(error),
    }
}

fn seconds_until(instant: Instant) -> f64 {
    instant.saturating_duration_since(Instant::now()).as_secs_f64()
}

/// The time in so many seconds, in seconds since 1970, as scripts see their deadline.
fn unix_seconds(left: f64) -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64() + left
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be started.
    #[error("`{program}` cannot be started")]
    Launch {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The runtime speaks another version of the protocol.
    #[error("the runtime `{runtime}` speaks version {found} of the protocol, this server version {PROTOCOL_VERSION}")]
    Protocol {
        /// The runtime's version.
        found: u32,
        /// The runtime.
        runtime: String,
    },
    /// The script could not be loaded: its own fault.
    #[error("the script cannot be loaded: {}", .0.message)]
    Script(CallError),
    /// The worker died, or took too long.
    #[error("while the script was being loaded, {lost}{}", .lost.last_words())]
    Lost {
        /// How it ended.
        lost: Lost,
    },
}

impl StartError {
    /// The word for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Launch { .. } | Self::Protocol { .. } | Self::Script(_) => Reason::LoadFailed,
            Self::Lost { lost } => lost.exit.reason(),
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("pid", &self.pid()).field("started", &self.started).finish_non_exhaustive()
    }
}

//! One worker: a child process that has loaded the script and takes one call at a time.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunnage_protocol::{
    Ask, AskError, CallError, CallId, Cancel, Done, Functions, Hello, Item, Load, Outcome, Output, Outputs, PROTOCOL_VERSION,
    Reply, ReplyOutcome, Request, Run, ToServer, ToWorker, VectorLayout,
};
use dunnage_types::{LogSource, Progress, Vector};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::exit::{Exit, Lost};
use crate::host::{Host, Line};
use crate::launch::{Launcher, Runtime};
use crate::lines::Lines;
use crate::process::Process;

/// How long a worker that has been told to go may take before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long a worker that has closed its connection may take to end before it is killed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a worker may take after SIGTERM before SIGKILL follows.
const TERM_PATIENCE: Duration = Duration::from_secs(2);

/// A worker that has loaded the script. Dropping it kills the process and whatever it started.
pub struct Worker {
    process: Option<Process>,
    connection: Connection,
    lines: Lines,
    host: Arc<dyn Host>,
    started: Started,
    last_call: u64,
}

/// What a worker said of itself while it started.
#[derive(Debug, Clone)]
pub struct Started {
    /// Who it is.
    pub hello: Hello,
    /// The script's functions.
    pub functions: Functions,
    /// From the start of the process until the script was loaded.
    pub load_time: Duration,
}

/// What is wanted of a running job beyond its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interrupt {
    /// Nothing: go on.
    #[default]
    None,
    /// Tell the script to stop; end the worker if it has not done so within the grace.
    Cancel,
    /// Kill the worker now: nothing it does counts any more.
    Kill,
}

/// The conditions of one conversation with a worker.
struct Terms<'a> {
    host: &'a dyn Host,
    /// Who may ask questions.
    asker: Asker,
    deadline: Option<Instant>,
    interrupt: Option<(&'a mut watch::Receiver<Interrupt>, Duration)>,
}

/// On whose behalf the worker may ask questions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    Loading,
    Call(CallId),
    Nobody,
}

impl Asker {
    fn owns(self, call: Option<CallId>) -> bool {
        match self {
            Self::Loading => call.is_none(),
            Self::Call(own) => call == Some(own),
            Self::Nobody => false,
        }
    }
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

    /// The process's number, for logs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(Process::id)
    }

    /// Passes on what the worker prints while it has nothing to do. Returns only when the worker must be buried, and how it
    /// is to be ended; may be dropped and called again.
    pub async fn idle(&mut self) -> Option<Exit> {
        let host = Arc::clone(&self.host);
        let terms = Terms { host: &*host, asker: Asker::Nobody, deadline: None, interrupt: None };
        match self.converse(terms).await {
            Ok(message) => Some(unexpected(&message)),
            Err(exit) => exit,
        }
    }

    /// Ends and reaps a worker that is lost; `exit` is what [`Worker::idle`] returned.
    pub async fn bury(mut self, exit: Option<Exit>) -> Lost {
        let host = Arc::clone(&self.host);
        self.lose(exit, &*host).await
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
        let call = self.next_call();
        let count = requests.len();
        let message = ToWorker::Output(Output { call, deadline: Some(unix_seconds(deadline)), requests });
        let terms = Terms { host, asker: Asker::Call(call), deadline: Some(deadline), interrupt: None };
        let answer = match self.call(&message, terms).await {
            Ok(ToServer::Outputs(outputs, payload)) if outputs.call == call && outputs.items.len() == count => {
                vectors(outputs, payload)
            }
            Ok(message) => Err(unexpected(&message)),
            Err(end) => return Err(self.lose(end, host).await),
        };
        match answer {
            Ok(vectors) => Ok(vectors),
            Err(exit) => Err(self.lose(Some(exit), host).await),
        }
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
        let call = self.next_call();
        let message = ToWorker::Run(Run { call, deadline: Some(unix_seconds(deadline)), ..run });
        let terms = Terms { host, asker: Asker::Call(call), deadline: Some(deadline), interrupt: Some((interrupt, cancel_grace)) };
        match self.call(&message, terms).await {
            Ok(ToServer::Done(Done { call: done, outcome })) if done == call => {
                self.lines.drain().into_iter().for_each(|line| host.line(line));
                Ok(outcome)
            }
            Ok(message) => Err(self.lose(Some(unexpected(&message)), host).await),
            Err(end) => Err(self.lose(end, host).await),
        }
    }

    /// Lets the worker go: it is told to end, and killed if it has not done so soon.
    pub async fn stop(mut self) {
        self.connection.close().await;
        if let Some(process) = self.process.take() {
            if !process.ended_within(STOP_PATIENCE).await {
                tracing::warn!(pid = process.id(), "a worker did not end when it was told to; killing it");
            }
            for line in self.lines.drain() {
                self.host.line(line);
            }
            if let Err(error) = process.end().await {
                tracing::warn!(%error, "a worker could not be reaped");
            }
        }
    }

    async fn launch(launcher: &Launcher, runtime: &Runtime, load: &Load, host: Arc<dyn Host>) -> Result<Self, StartError> {
        let program = runtime.program.display().to_string();
        let cannot_start = |source| StartError::Launch { program: program.clone(), source };
        let folder = load.script.parent().unwrap_or(std::path::Path::new("/")).to_owned();
        let mut launched = launcher.launch(runtime.clone(), folder).await.map_err(cannot_start)?;
        let pipes = launched.child.stdout.take().zip(launched.child.stderr.take());
        let process = Process::new(launched.child).map_err(cannot_start)?;
        let (stdout, stderr) = pipes.ok_or_else(|| cannot_start(io::Error::other("the child has no pipes")))?;
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            runtime: program.clone(),
            version: String::new(),
            language: String::new(),
            capabilities: Vec::new(),
        };
        Ok(Self {
            process: Some(process),
            connection: Connection::new(launched.socket).map_err(cannot_start)?,
            lines: Lines::new(stdout.into(), stderr.into()).map_err(cannot_start)?,
            host,
            started: Started { hello, functions: Functions::default(), load_time: Duration::ZERO },
            last_call: 0,
        })
    }

    async fn greet(&mut self, deadline: Instant) -> Result<(), StartError> {
        match self.answer_to(None, deadline).await? {
            ToServer::Hello(hello) if hello.protocol == PROTOCOL_VERSION => {
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
                self.lines.drain().into_iter().for_each(|line| self.host.line(line));
                Ok(loaded.functions)
            }
            ToServer::LoadFailed(failed) => {
                self.lines.drain().into_iter().for_each(|line| self.host.line(line));
                Err(StartError::Script(failed.error))
            }
            message => Err(self.refuse(&message).await),
        }
    }

    async fn answer_to(&mut self, message: Option<ToWorker>, deadline: Instant) -> Result<ToServer, StartError> {
        let host = Arc::clone(&self.host);
        let terms = Terms { host: &*host, asker: Asker::Loading, deadline: Some(deadline), interrupt: None };
        let answer = match message {
            Some(message) => self.call(&message, terms).await,
            None => self.converse(terms).await,
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(end) => Err(StartError::Lost { lost: self.lose(end, &*host).await }),
        }
    }

    async fn refuse(&mut self, message: &ToServer) -> StartError {
        let host = Arc::clone(&self.host);
        StartError::Lost { lost: self.lose(Some(unexpected(message)), &*host).await }
    }

    fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    /// Sends a message and waits for what answers it.
    async fn call(&mut self, message: &ToWorker, terms: Terms<'_>) -> Result<ToServer, Option<Exit>> {
        // A failed write means that the worker is ending; the conversation finds out how.
        if let Err(error) = self.connection.send(message).await {
            tracing::debug!(%error, "a call could not be written");
        }
        self.converse(terms).await
    }

    /// Serves the worker until it says something that is an answer. The error is how it is to be ended; `None` when it has
    /// ended by itself.
    async fn converse(&mut self, mut terms: Terms<'_>) -> Result<ToServer, Option<Exit>> {
        let mut ladder = Ladder::default();
        loop {
            tokio::select! {
                biased;
                message = self.connection.receive() => match message {
                    Ok(Some(message)) => {
                        if let Some(answer) = self.absorb(message, &terms).await? {
                            return Ok(answer);
                        }
                    }
                    Ok(None) => return Err(self.closed().await),
                    Err(error) => return Err(Some(Exit::Protocol(error.to_string()))),
                },
                lines = self.lines.next() => lines.into_iter().for_each(|line| terms.host.line(line)),
                () = ended(self.process.as_ref()) => return Err(None),
                () = until(terms.deadline) => return Err(Some(Exit::DeadlinePassed)),
                interrupt = interrupted(&mut terms.interrupt) => match (interrupt, terms.asker) {
                    (Interrupt::Cancel, Asker::Call(call)) => {
                        ladder.begin(terms.interrupt.as_ref().map_or(Duration::ZERO, |(_, grace)| *grace));
                        // A failed write means that the worker is ending; the next turn finds out how.
                        let _ = self.connection.send(&ToWorker::Cancel(Cancel { call })).await;
                    }
                    (Interrupt::Kill, _) => return Err(Some(Exit::Interrupted)),
                    _ => {}
                },
                () = until(ladder.next) => match ladder.climb() {
                    Some(signal) => self.process.iter().for_each(|process| process.signal(signal)),
                    None => return Err(Some(Exit::Interrupted)),
                },
            }
        }
    }

    /// Deals with a message that is no answer, and returns one that is.
    async fn absorb(&mut self, message: ToServer, terms: &Terms<'_>) -> Result<Option<ToServer>, Option<Exit>> {
        match message {
            ToServer::Ask(Ask { ask, call, operation }) => {
                let outcome = if terms.asker.owns(call) {
                    let answered = terms.host.answer(operation);
                    match terms.deadline {
                        Some(deadline) => {
                            tokio::time::timeout_at(deadline, answered).await.map_err(|_| Some(Exit::DeadlinePassed))?
                        }
                        None => answered.await,
                    }
                } else {
                    Err(AskError { code: "not_allowed".to_owned(), message: "this call has ended".to_owned() })
                };
                let outcome = outcome.map_or_else(ReplyOutcome::Error, ReplyOutcome::Ok);
                self.connection
                    .send(&ToWorker::Reply(Reply { ask, outcome }))
                    .await
                    .map_err(|error| Some(Exit::Protocol(error.to_string())))?;
            }
            ToServer::Progress(progress) if terms.asker.owns(Some(progress.call)) => {
                let fraction = progress.fraction.filter(|fraction| fraction.is_finite()).map(|fraction| fraction.clamp(0.0, 1.0));
                terms.host.progress(Progress { fraction, message: progress.message, metrics: progress.metrics });
            }
            // Progress of a call that has ended: a thread the script left behind.
            ToServer::Progress(_) => {}
            ToServer::Log(log) => {
                let line = Line { source: LogSource::Log, level: log.level, message: log.message };
                let host = if log.call.is_some() && terms.asker.owns(log.call) { terms.host } else { &*self.host };
                host.line(line);
            }
            answer => return Ok(Some(answer)),
        }
        Ok(None)
    }

    /// The worker has closed its connection: it should end now.
    async fn closed(&self) -> Option<Exit> {
        match &self.process {
            Some(process) if !process.ended_within(CLOSE_PATIENCE).await => {
                Some(Exit::Protocol("it closed its connection but did not end".to_owned()))
            }
            _ => None,
        }
    }

    /// Makes sure that the worker is gone, and says how it went. `exit` is our reason for ending it, if it was us.
    async fn lose(&mut self, exit: Option<Exit>, host: &dyn Host) -> Lost {
        let status = match self.process.take() {
            Some(process) => process.end().await.ok(),
            None => None,
        };
        self.lines.drain().into_iter().for_each(|line| host.line(line));
        let exit = exit.or_else(|| status.map(Exit::from)).unwrap_or(Exit::Code(-1));
        Lost { exit, last_lines: self.lines.recent() }
    }
}

/// The steps by which a cancelled call is ended: told, SIGTERM, SIGKILL.
#[derive(Default)]
struct Ladder {
    next: Option<Instant>,
    terminated: bool,
}

impl Ladder {
    fn begin(&mut self, grace: Duration) {
        if self.next.is_none() {
            self.next = Some(Instant::now() + grace);
        }
    }

    /// The signal of this step; `None` when only killing is left.
    fn climb(&mut self) -> Option<Signal> {
        self.next = Some(Instant::now() + TERM_PATIENCE);
        (!std::mem::replace(&mut self.terminated, true)).then_some(Signal::TERM)
    }
}

async fn ended(process: Option<&Process>) {
    if let Some(process) = process {
        process.ended().await;
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => pending().await,
    }
}

async fn interrupted(interrupt: &mut Option<(&mut watch::Receiver<Interrupt>, Duration)>) -> Interrupt {
    match interrupt {
        Some((receiver, _)) => match receiver.changed().await {
            Ok(()) => *receiver.borrow_and_update(),
            // Nobody is left who could interrupt.
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}

fn unexpected(message: &ToServer) -> Exit {
    let text = format!("{message:?}");
    let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    Exit::Protocol(format!("it sent `{name}` where that makes no sense"))
}

/// Splits a payload into the vectors that `outputs` announces, without copying.
fn vectors(outputs: Outputs, mut payload: Bytes) -> Result<Vec<Result<Vector<Bytes>, CallError>>, Exit> {
    let mut split = |item| match item {
        Item::Error(error) => Ok(Err(error)),
        Item::Vector(layout) => take_vector(layout, &mut payload),
    };
    let vectors = outputs.items.into_iter().map(&mut split).collect::<Result<_, _>>()?;
    if payload.is_empty() { Ok(vectors) } else { Err(Exit::Protocol("its payload is longer than announced".to_owned())) }
}

fn take_vector(layout: VectorLayout, payload: &mut Bytes) -> Result<Result<Vector<Bytes>, CallError>, Exit> {
    let bytes = usize::try_from(layout.length).ok().and_then(|length| length.checked_mul(layout.dtype.size()));
    let bytes = bytes.filter(|bytes| *bytes <= payload.len());
    let bytes = bytes.ok_or_else(|| Exit::Protocol("its payload is shorter than announced".to_owned()))?;
    if bytes == 0 {
        return Ok(Err(CallError::new("bad_output", "the output vector is empty; return at least one number")));
    }
    let vector = Vector::new(layout.dtype, payload.split_to(bytes));
    Ok(vector.map_err(|error| CallError::new("bad_output", error.to_string())))
}

/// An instant as seconds since 1970, as scripts see their deadline.
fn unix_seconds(instant: Instant) -> f64 {
    let left = instant.saturating_duration_since(Instant::now());
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64() + left.as_secs_f64()
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

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("pid", &self.pid()).field("started", &self.started).finish_non_exhaustive()
    }
}

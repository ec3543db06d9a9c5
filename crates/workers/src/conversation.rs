//! What happens between a message to a worker and its answer: questions, lines, deadlines, and the worker's end.
//!
//! [`Channel`] is everything that leads to a worker; [`Terms`] are the conditions of one conversation over it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use dunnage_protocol::{Ask, AskError, CallId, Cancel, Reply, ReplyOutcome, ToServer, ToWorker};
use dunnage_types::{LogSource, Progress};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::{Broken, Connection};
use crate::exit::{Exit, Lost};
use crate::host::{Host, Line};
use crate::interrupt::{Interrupt, Ladder};
use crate::lines::Lines;
use crate::process::Process;

/// How long a worker that has closed its connection may take to end before it is killed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The number of SIGKILL.
const KILL: i32 = Signal::KILL.as_raw();

/// What leads to a worker: its process, its connection, and what it prints.
pub(crate) struct Channel {
    /// `None` once it has been ended and reaped.
    pub(crate) process: Option<Process>,
    pub(crate) connection: Connection,
    pub(crate) lines: Lines,
    /// Takes what belongs to no call.
    pub(crate) host: Arc<dyn Host>,
}

/// The conditions of one conversation with a worker.
pub(crate) struct Terms<'a> {
    pub(crate) host: &'a dyn Host,
    /// Who may ask questions.
    pub(crate) asker: Asker,
    pub(crate) deadline: Option<Instant>,
    pub(crate) interrupt: Option<(&'a mut watch::Receiver<Interrupt>, Duration)>,
}

/// On whose behalf the worker may ask questions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Loading,
    Call(CallId),
    Nobody,
}

/// Why nothing more will be heard of a worker.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Its process has ended.
    Ended,
    /// It has left its connection, perhaps with something unread.
    Closed,
    /// It has said what makes no sense.
    Broken(Exit),
}

impl From<Broken> for Silence {
    fn from(error: Broken) -> Self {
        match error {
            Broken::Io(_) => Self::Closed,
            Broken::Frame(_) | Broken::Message(_) | Broken::Descriptor(_) => Self::Broken(Exit::Protocol(error.to_string())),
        }
    }
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

impl Channel {
    /// Sends a message and waits for what answers it.
    pub(crate) async fn call(&mut self, message: &ToWorker, terms: Terms<'_>) -> Result<ToServer, Option<Exit>> {
        self.enqueue(message)?;
        self.converse(terms).await
    }

    /// Only a message that fits no frame fails here, which none of ours should be.
    fn enqueue(&mut self, message: &ToWorker) -> Result<(), Option<Exit>> {
        self.connection.enqueue(message).map_err(|error| Some(Exit::Protocol(error.to_string())))
    }

    /// Serves the worker until it says something that is an answer. The error is how it is to be ended; `None` when it has
    /// ended by itself.
    pub(crate) async fn converse(&mut self, mut terms: Terms<'_>) -> Result<ToServer, Option<Exit>> {
        let mut ladder = Ladder::default();
        loop {
            // In this order: a worker that never stops talking must not put off its end, and what it has said before it ended
            // counts.
            tokio::select! {
                biased;
                () = until(terms.deadline) => return Err(Some(Exit::DeadlinePassed)),
                interrupt = interrupted(&mut terms.interrupt) => match (interrupt, terms.asker) {
                    (Interrupt::Cancel, Asker::Call(call)) if ladder.next.is_none() => {
                        ladder.begin(terms.interrupt.as_ref().map_or(Duration::ZERO, |(_, grace)| *grace));
                        self.enqueue(&ToWorker::Cancel(Cancel { call }))?;
                    }
                    (Interrupt::Kill, _) => return Err(Some(Exit::Interrupted)),
                    _ => {}
                },
                () = until(ladder.next) => match ladder.climb() {
                    Some(signal) => self.process.iter().for_each(|process| process.signal(signal)),
                    None => return Err(Some(Exit::Interrupted)),
                },
                heard = self.hear(terms.host) => match heard {
                    Ok(message) => {
                        if let Some(answer) = self.absorb(message, &terms).await? {
                            return Ok(answer);
                        }
                    }
                    Err(silence) => return Err(self.explain(silence).await),
                },
            }
        }
    }

    /// Waits for the worker's next message, writes meanwhile what it is to be told, and passes on what it prints. May be dropped and
    /// called again without losing anything.
    pub(crate) async fn hear(&mut self, host: &dyn Host) -> Result<ToServer, Silence> {
        loop {
            // In this order: what a worker has said before it ended counts.
            tokio::select! {
                biased;
                message = self.connection.turn() => return match message {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => Err(Silence::Closed),
                    Err(error) => Err(error.into()),
                },
                lines = self.lines.next() => lines.into_iter().for_each(|line| host.line(line)),
                () = ended(self.process.as_ref()) => return Err(Silence::Ended),
            }
        }
    }

    /// A message that has been read already, if there is one.
    pub(crate) fn heard(&mut self) -> Result<Option<ToServer>, Silence> {
        self.connection.next().map_err(Silence::from)
    }

    /// A message that a worker has left behind which has ended, if there is another.
    pub(crate) fn heard_last(&mut self) -> Result<Option<ToServer>, Silence> {
        self.connection.next_of_rest().map_err(Silence::from)
    }

    /// How a worker is to be ended that has nothing more to say; `None` when it ends by itself.
    pub(crate) async fn explain(&self, silence: Silence) -> Option<Exit> {
        match silence {
            Silence::Ended => None,
            Silence::Closed => self.closed().await,
            Silence::Broken(exit) => Some(exit),
        }
    }

    /// Deals with a message that is no answer, and returns one that is. Must not be dropped halfway: a question would be lost.
    pub(crate) async fn absorb(&mut self, message: ToServer, terms: &Terms<'_>) -> Result<Option<ToServer>, Option<Exit>> {
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
                self.enqueue(&ToWorker::Reply(Reply { ask, outcome }))?;
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
                self.lines.admit(line).into_iter().for_each(|line| host.line(line));
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
    pub(crate) async fn lose(&mut self, exit: Option<Exit>, host: &dyn Host) -> Lost {
        let exit = match (exit, self.process.take()) {
            (None, Some(process)) => how_it_ended(process).await,
            (Some(exit), process) => {
                if let Some(process) = process {
                    reaped(process.end().await);
                }
                exit
            }
            (None, None) => Exit::Code(-1),
        };
        self.lines.drain().into_iter().for_each(|line| host.line(line));
        Lost { exit, last_lines: self.lines.recent() }
    }
}

/// Reaps a process that has ended by itself, or was ended by somebody else.
async fn how_it_ended(process: Process) -> Exit {
    let oom_kills = process.oom_kills();
    match reaped(process.end().await).map_or(Exit::Code(-1), Exit::from) {
        Exit::Signal(KILL) if oom_kills.is_some_and(|kills| kills.explains_a_kill()) => Exit::OutOfMemory,
        exit => exit,
    }
}

fn reaped(status: std::io::Result<std::process::ExitStatus>) -> Option<std::process::ExitStatus> {
    status.inspect_err(|error| tracing::warn!(%error, "a lost worker could not be reaped")).ok()
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

/// How a worker is ended that says something out of turn.
pub(crate) fn unexpected(message: &ToServer) -> Exit {
    let text = format!("{message:?}");
    let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    Exit::Protocol(format!("it sent `{name}` where that makes no sense"))
}

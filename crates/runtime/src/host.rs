//! The server, as a script's runtime sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dunnage_protocol::{Answer, AskError, CallId, LogMessage, Operation, ProgressMessage, ReplyOutcome, StateEntry, ToServer};
use dunnage_types::{LogLevel, Progress, StateValue};
use serde_json::Number;

use crate::connection::{Connection, ConnectionError};

/// The server, outside of any call: while the script is loaded, and for log lines of its background threads.
///
/// Cheap to clone; may be used from any thread.
#[derive(Debug, Clone)]
pub struct Host {
    connection: Arc<Connection>,
}

/// The server, within one call. After the call has ended every question fails with [`HostError::CallEnded`], so that a
/// thread the script left behind cannot write in a later call's name.
#[derive(Debug, Clone)]
pub struct CallHost {
    host: Host,
    call: Option<CallId>,
    active: Arc<AtomicBool>,
}

impl Host {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    /// The host for the time of loading, when state may be read though there is no call.
    #[must_use]
    pub fn loading(&self) -> CallHost {
        CallHost { host: self.clone(), call: None, active: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn call(&self, call: CallId) -> CallHost {
        CallHost { host: self.clone(), call: Some(call), active: Arc::new(AtomicBool::new(true)) }
    }

    /// Sends a line that belongs to no call. A connection that is gone is noticed by the worker loop, not here.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let _ = self.connection.send(&ToServer::Log(LogMessage { call: None, level, message: message.into() }));
    }
}

impl CallHost {
    /// The value of a key, or `None`.
    ///
    /// # Errors
    ///
    /// [`HostError`], as for every question.
    pub fn state_get(&self, key: &str) -> Result<Option<StateValue>, HostError> {
        match self.ask(Operation::StateGet { key: key.to_owned() })? {
            Answer::Value(value) => Ok(value),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// Sets a key.
    ///
    /// # Errors
    ///
    /// [`HostError`]; refused with `superseded` when the attempt has lost its lease.
    pub fn state_set(&self, key: &str, value: StateValue) -> Result<(), HostError> {
        match self.ask(Operation::StateSet { key: key.to_owned(), value })? {
            Answer::Nothing => Ok(()),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    ///
    /// As [`CallHost::state_set`].
    pub fn state_delete(&self, key: &str) -> Result<bool, HostError> {
        match self.ask(Operation::StateDelete { key: key.to_owned() })? {
            Answer::Flag(existed) => Ok(existed),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// Adds to a number and returns the sum; an absent key counts as 0. No update is lost between workers.
    ///
    /// # Errors
    ///
    /// As [`CallHost::state_set`]; `not_a_number` if the key holds something else.
    pub fn state_increment(&self, key: &str, by: Number) -> Result<Number, HostError> {
        match self.ask(Operation::StateIncrement { key: key.to_owned(), by })? {
            Answer::Number(sum) => Ok(sum),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// Sets a key to `new` if it holds `old`, where `None` means absent; whether it was set.
    ///
    /// # Errors
    ///
    /// As [`CallHost::state_set`].
    pub fn state_compare_and_set(&self, key: &str, old: Option<StateValue>, new: Option<StateValue>) -> Result<bool, HostError> {
        match self.ask(Operation::StateCompareAndSet { key: key.to_owned(), old, new })? {
            Answer::Flag(set) => Ok(set),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// Up to `limit` entries whose keys begin with `prefix`, in byte order, behind the key `after`. There may be fewer, so
    /// that they fit a frame; none means that there are no more.
    ///
    /// # Errors
    ///
    /// [`HostError`], as for every question.
    pub fn state_scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<StateEntry>, HostError> {
        let operation = Operation::StateScan { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        match self.ask(operation)? {
            Answer::Entries(entries) => Ok(entries),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// The folder for what this training makes; the same one for the whole attempt.
    ///
    /// # Errors
    ///
    /// [`HostError`]; `not_allowed` outside of `train`.
    pub fn new_artifact(&self) -> Result<PathBuf, HostError> {
        match self.ask(Operation::NewArtifact)? {
            Answer::Path(path) => Ok(path),
            other => Err(HostError::unexpected(&other)),
        }
    }

    /// Reports how far the job has come. Not waited for.
    ///
    /// # Errors
    ///
    /// [`HostError::CallEnded`], or [`HostError::Connection`] when the server is gone.
    pub fn progress(&self, progress: Progress) -> Result<(), HostError> {
        let Some(call) = self.current_call()? else { return Ok(()) };
        let Progress { fraction, message, metrics } = progress;
        self.host.connection.send(&ToServer::Progress(ProgressMessage { call, fraction, message, metrics }))?;
        Ok(())
    }

    /// Sends a line for the log of the job or request. Not waited for. After the call has ended the line belongs to none.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let call = self.call.filter(|_| self.is_active());
        let _ = self.host.connection.send(&ToServer::Log(LogMessage { call, level, message: message.into() }));
    }

    /// Whether the call is no longer wanted: cancelled, or ended. Never waits, and costs one system call.
    ///
    /// # Errors
    ///
    /// [`HostError::Connection`] when the server is gone.
    pub fn is_cancelled(&self) -> Result<bool, HostError> {
        match self.current_call() {
            Ok(Some(call)) => Ok(self.host.connection.is_cancelled(call)?),
            Ok(None) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    /// Ends the call: from here on every question fails.
    pub(crate) fn end(&self) {
        self.active.store(false, Ordering::SeqCst);
        if let Some(call) = self.call {
            self.host.connection.end_call(call);
        }
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    fn current_call(&self) -> Result<Option<CallId>, HostError> {
        if self.is_active() { Ok(self.call) } else { Err(HostError::CallEnded) }
    }

    fn ask(&self, operation: Operation) -> Result<Answer, HostError> {
        let call = self.current_call()?;
        match self.host.connection.ask(call, operation)? {
            ReplyOutcome::Ok(answer) => Ok(answer),
            ReplyOutcome::Error(error) => Err(HostError::Refused(error)),
        }
    }
}

/// Why the server did not do what a script asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The server refused.
    #[error(transparent)]
    Refused(AskError),
    /// The call is over; its context is of no further use.
    #[error("this call has ended; its context cannot be used any more")]
    CallEnded,
    /// The server is gone; the worker is about to exit.
    #[error("the server cannot be reached")]
    Connection(#[from] ConnectionError),
    /// The server answered another question than was asked.
    #[error("the server's answer does not fit the question: {0}")]
    Unexpected(String),
}

impl HostError {
    fn unexpected(answer: &Answer) -> Self {
        Self::Unexpected(format!("{answer:?}").chars().take(80).collect())
    }
}

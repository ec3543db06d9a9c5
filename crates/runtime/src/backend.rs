//! The trait a language implements.

use std::io;

use dunnage_protocol::{CallError, Functions, Item, Load, Output, Run, VectorLayout};
use dunnage_types::VectorType;
use serde_json::Value;

use crate::host::{CallHost, Host};
use crate::payload::Payload;

/// One language's way of running a script.
///
/// The worker loop calls a backend from one thread, one call at a time. A backend never sees a socket: whatever a script
/// asks of the server goes through the [`Host`] or [`CallHost`] it is given. A failure of the script is a [`CallError`]; a
/// backend that cannot go on at all should end the process, which the server notices and mends.
pub trait Backend {
    /// Who is speaking; sent to the server first.
    fn identity(&self) -> Identity;

    /// Loads the script and makes it ready for calls. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// A [`CallError`] with code `load_failed` that names the script's mistake; the worker then exits.
    fn load(&mut self, load: &Load, host: &Host) -> Result<Functions, CallError>;

    /// Runs the script's `self_test`; `false` if that returned false, and `true` for whatever else it returned.
    ///
    /// Called once after [`Backend::load`], in a serving worker whose script has a `self_test`; the worker says that it is
    /// loaded only once this has passed. Workers that only run jobs are spared it. By default there is nothing to run.
    ///
    /// # Errors
    ///
    /// What the script raised, as in [`Backend::load`]. Whatever its code, the server is told `self_test_failed`.
    fn self_test(&mut self, _host: &Host) -> Result<bool, CallError> {
        Ok(true)
    }

    /// Answers every request of `output`, in order, by one call each on `answers`.
    fn output(&mut self, output: &Output, host: &CallHost, answers: &mut Answers);

    /// Runs one attempt at a job and returns what the script returned, `null` for nothing.
    ///
    /// # Errors
    ///
    /// The script's failure: `script_error`, `script_retry`, `script_cancelled`, `function_missing` or `bad_result`.
    fn run(&mut self, run: &Run, host: &CallHost) -> Result<Value, CallError>;

    /// Flushes whatever the language buffers of standard output and standard error, which should be no more than the beginning of a
    /// line. Called before each answer, so that the server finds a call's text before it learns of its end.
    ///
    /// Between calls of [`Backend::output`] that were sent ahead it is called once in 100 milliseconds, and before the last answer: such
    /// a call's text may come after its answer, but does not stay behind while the worker is idle.
    fn flush(&mut self) {}
}

/// Who a runtime is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, such as `dunnage-python`.
    pub runtime: String,
    /// Its version.
    pub version: String,
    /// The language and its version, such as `CPython 3.11.7`.
    pub language: String,
}

/// Collects the answers to one batch, straight into what goes to the server.
#[derive(Debug, Default)]
pub struct Answers {
    items: Vec<Item>,
    payload: Payload,
    /// Why the payload is lost, if it is.
    failure: Option<io::Error>,
}

impl Answers {
    /// Answers for a server that takes payloads in descriptors, or does not.
    pub(crate) fn new(descriptors: bool) -> Self {
        Self { payload: Payload::new(descriptors), ..Self::default() }
    }

    /// Answers the next request with a vector, whose elements are `bytes`, little-endian. They are copied once.
    pub fn vector(&mut self, dtype: VectorType, bytes: &[u8]) {
        if let Err(error) = self.payload.extend(bytes) {
            self.failure = Some(error);
        }
        let length = (bytes.len() / dtype.size()) as u64;
        self.items.push(Item::Vector(VectorLayout { dtype, length }));
    }

    /// Answers the next request with the script's failure.
    pub fn error(&mut self, error: CallError) {
        self.items.push(Item::Error(error));
    }

    /// How many requests have been answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no request has been answered yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Makes the number of answers `count`: a backend that answered too few of them, or too many, has failed on all.
    ///
    /// # Errors
    ///
    /// Why the system has lost the payload.
    pub(crate) fn finish(mut self, count: usize) -> io::Result<(Vec<Item>, Payload)> {
        if self.items.len() != count {
            let found = self.items.len();
            let error = CallError::new("bad_output", format!("{found} answers to a batch of {count} requests"));
            self.items = vec![Item::Error(error); count];
            self.payload = Payload::default();
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok((self.items, self.payload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_with_a_wrong_number_of_answers_fails_whole() {
        let mut answers = Answers::default();
        answers.vector(VectorType::F32, &[0; 8]);
        let (items, payload) = answers.finish(2).unwrap();
        assert!(items.len() == 2 && items.iter().all(|item| matches!(item, Item::Error(error) if error.code == "bad_output")));
        assert!(payload.is_empty());
    }
}

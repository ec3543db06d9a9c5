//! What the server answers to scripts: questions about state, for requests and jobs alike.

use std::sync::Arc;

use async_trait::async_trait;
use dunnage_protocol::{Answer, AskError, Operation, StateEntry};
use dunnage_store::{Lease, StoreError};
use dunnage_types::{LogLevel, Progress};
use dunnage_workers::{Host, Line};

use crate::problem::chain;
use crate::state::CachedState;

/// The most entries of one scan; scripts read on page by page.
const MAX_SCAN: u32 = 1000;

/// Serves the calls of `/output`, and workers while they load.
pub(crate) struct ServingHost {
    state: Arc<CachedState>,
}

impl ServingHost {
    pub(crate) fn new(state: Arc<CachedState>) -> Self {
        Self { state }
    }
}

#[async_trait]
impl Host for ServingHost {
    async fn answer(&self, operation: Operation) -> Result<Answer, AskError> {
        match operation {
            Operation::StateGet { key } => self.state.get(&key).await.map(Answer::Value).map_err(refusal),
            operation => answer_state(&self.state, None, operation).await,
        }
    }

    fn progress(&self, _progress: Progress) {
        // A request for output has no progress that anybody could ask for.
    }

    fn line(&self, line: Line) {
        log_line(&line);
    }
}

/// Puts a script's line into the server's own log.
pub(crate) fn log_line(line: &Line) {
    let (source, message) = (line.source.as_str(), line.message.as_str());
    match line.level {
        LogLevel::Debug => tracing::debug!(target: "script", source, message),
        LogLevel::Info => tracing::info!(target: "script", source, message),
        LogLevel::Warning => tracing::warn!(target: "script", source, message),
        LogLevel::Error => tracing::error!(target: "script", source, message),
    }
}

/// Answers every question about state from the database itself; writes are fenced by `fence`.
pub(crate) async fn answer_state(state: &CachedState, fence: Option<Lease>, operation: Operation) -> Result<Answer, AskError> {
    let store = state.store();
    let answered = match operation {
        Operation::StateGet { key } => store.get(&key).await.map(Answer::Value),
        Operation::StateSet { key, value } => state.write(&key, store.set(fence, &key, value)).await.map(|()| Answer::Nothing),
        Operation::StateDelete { key } => state.write(&key, store.delete(fence, &key)).await.map(Answer::Flag),
        Operation::StateIncrement { key, by } => state.write(&key, store.increment(fence, &key, &by)).await.map(Answer::Number),
        Operation::StateCompareAndSet { key, old, new } => {
            state.write(&key, store.compare_and_set(fence, &key, old, new)).await.map(Answer::Flag)
        }
        Operation::StateScan { prefix, after, limit } => {
            let entries = store.scan(&prefix, after.as_deref(), limit.min(MAX_SCAN)).await;
            entries.map(|entries| entries.into_iter().map(|(key, value)| StateEntry { key, value }).collect()).map(Answer::Entries)
        }
        Operation::NewArtifact => return Err(not_allowed("only `train` can make an artifact")),
    };
    answered.map_err(refusal)
}

pub(crate) fn not_allowed(message: &str) -> AskError {
    AskError { code: "not_allowed".to_owned(), message: message.to_owned() }
}

/// A failure of the store, as a script may see it.
pub(crate) fn refusal(error: StoreError) -> AskError {
    let code = match &error {
        StoreError::InvalidKey => "key_invalid",
        StoreError::ValueTooLarge { .. } => "value_too_large",
        StoreError::NotANumber { .. } => "not_a_number",
        StoreError::InconsistentArray { .. } => "array_invalid",
        StoreError::Superseded(_) => "superseded",
        _ => {
            tracing::error!(error = %chain(&error), "a script's question could not be answered");
            "unavailable"
        }
    };
    AskError { code: code.to_owned(), message: error.to_string() }
}

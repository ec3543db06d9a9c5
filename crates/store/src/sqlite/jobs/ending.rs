//! The two ways out of an attempt: the end, and the queue.

use std::time::Duration;

use dunnage_types::{JobError, JobState};
use rusqlite::named_params;
use serde_json::Value;

use super::attempt::Held;
use crate::StoreError;
use crate::sqlite::rows::{Json, Rows, Word, later};

const END: &str = "
    UPDATE job SET state = :state, result = :result, error = :error, lease_expires_at = NULL, finished_at = :now,
        callback_due = iif(callback IS NULL, NULL, :now)
    WHERE seq = :seq";

const REQUEUE: &str = "
    UPDATE job SET state = 'queued', lease_expires_at = NULL, run_at = :run_at, error = :error
    WHERE seq = :seq";

/// What a job ends with.
pub(super) struct Ending<'a> {
    pub(super) state: JobState,
    pub(super) result: Option<&'a Value>,
    pub(super) error: Option<&'a JobError>,
}

impl Ending<'_> {
    pub(super) fn new(state: JobState) -> Self {
        Self { state, result: None, error: None }
    }
}

/// Ends a job that is known not to have ended.
pub(super) fn end(rows: &Rows<'_>, seq: i64, ending: Ending<'_>) -> Result<(), StoreError> {
    let parameters = named_params! {
        ":seq": seq,
        ":state": Word(ending.state),
        ":result": ending.result.map(Json),
        ":error": ending.error.map(Json),
        ":now": rows.now.0,
    };
    rows.execute(END, parameters).map(drop)
}

/// Queues a job whose attempt came to nothing; or ends it, cancelled if that was asked for, or in `error` when that was the
/// last attempt.
pub(super) fn retry(rows: &Rows<'_>, held: &Held, error: &JobError, after: Duration) -> Result<(), StoreError> {
    if held.cancel_requested {
        return end(rows, held.seq, Ending::new(JobState::Cancelled));
    }
    if held.is_last_attempt() {
        return end(rows, held.seq, Ending { error: Some(error), ..Ending::new(JobState::Error) });
    }
    let parameters = named_params! { ":seq": held.seq, ":run_at": later(rows.now, after), ":error": Json(error) };
    rows.execute(REQUEUE, parameters).map(drop)
}

//! The callbacks of jobs that have ended.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{CallbackState, JobId};
use rusqlite::{Row, named_params};

use super::rows::{Rows, Word, later};
use super::{SqliteStore, jobs};
use crate::{Callbacks, Delivery, DueCallback, StoreError};

pub(super) const CLAIM: &str = "
    UPDATE job SET callback_due = :hidden_until, callback_attempts = callback_attempts + 1
    WHERE seq IN (
        SELECT seq FROM job WHERE service = :service AND callback_due <= :now ORDER BY callback_due LIMIT :limit)
    RETURNING *";

const SETTLE: &str = "
    UPDATE job SET callback_state = :state, callback_due = :due, callback_error = :error
    WHERE service = :service AND id = :job AND callback_attempts = :attempt AND callback_due IS NOT NULL";

#[async_trait]
impl Callbacks for SqliteStore {
    async fn claim_callbacks(&self, limit: u32, patience: Duration) -> Result<Vec<DueCallback>, StoreError> {
        self.write(move |rows| claim(rows, limit, patience)).await
    }

    async fn settle_callback(&self, job: JobId, attempt: u32, outcome: Delivery) -> Result<(), StoreError> {
        self.write(move |rows| settle(rows, job, attempt, &outcome)).await
    }

    async fn callback_hint(&self) {
        self.hints.callbacks.notified().await;
    }
}

fn claim(rows: &Rows<'_>, limit: u32, patience: Duration) -> Result<Vec<DueCallback>, StoreError> {
    let parameters = named_params! {
        ":service": rows.service,
        ":hidden_until": later(rows.now, patience),
        ":now": rows.now.0,
        ":limit": limit,
    };
    let claimed = rows.all(CLAIM, parameters, |row| Ok::<_, StoreError>(due(row)))?;
    // A job that cannot be read is not told of; it stays hidden until its patience ends, and is reported again then.
    let readable =
        claimed.into_iter().filter_map(|due| due.inspect_err(|error| tracing::error!(%error, "a callback is lost")).ok());
    Ok(readable.collect())
}

fn due(row: &Row<'_>) -> Result<DueCallback, StoreError> {
    let job = jobs::read(row)?;
    let (url, attempt) = (row.get("callback")?, row.get("callback_attempts")?);
    Ok(DueCallback { job, url, attempt })
}

fn settle(rows: &Rows<'_>, job: JobId, attempt: u32, outcome: &Delivery) -> Result<(), StoreError> {
    let (state, due, error) = match outcome {
        Delivery::Delivered => (CallbackState::Delivered, None, None),
        Delivery::Retry { error, after } => (CallbackState::Pending, Some(later(rows.now, *after)), Some(error)),
        Delivery::GivenUp { error } => (CallbackState::Failed, None, Some(error)),
    };
    let parameters = named_params! {
        ":service": rows.service,
        ":job": Word(job),
        ":attempt": attempt,
        ":state": state.as_str(),
        ":due": due,
        ":error": error,
    };
    rows.execute(SETTLE, parameters).map(drop)
}

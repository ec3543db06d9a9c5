//! The callbacks of jobs that have ended.

use std::error::Error;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use dunnage_types::{CallbackState, JobId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::hints::Event;
use super::rows::{corrupt, json, limit, seconds};
use super::{PostgresStore, jobs};
use crate::{Callbacks, Delivery, DueCallback, StoreError};

/// Replicas that do so at the same time take different ones.
pub(super) const CLAIM: &str = "
    WITH due AS MATERIALIZED (
        SELECT seq, callback_due FROM job
        WHERE service = $1 AND callback_due <= now()
        ORDER BY callback_due
        LIMIT $2
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE job SET callback_due = now() + make_interval(secs => $3), callback_attempts = callback_attempts + 1
    FROM due
    WHERE job.seq = due.seq
    RETURNING job.*, due.callback_due AS was_due";

const SETTLE: &str = "
    UPDATE job SET callback_state = $4, callback_due = now() + make_interval(secs => $5), callback_error = $6
    WHERE service = $1 AND id = $2 AND callback_attempts = $3 AND callback_due IS NOT NULL";

#[async_trait]
impl Callbacks for PostgresStore {
    async fn claim_callbacks(&self, most: u32, patience: Duration) -> Result<Vec<DueCallback>, StoreError> {
        let (most, patience) = (limit(most), seconds(patience));
        let parameters = [self.scope.service(), (&most as _, Type::INT8), (&patience, Type::FLOAT8)];
        let mut claimed = self.scope.once(CLAIM, &parameters).await?;
        claimed.sort_by_cached_key(|row| row.get::<_, SystemTime>("was_due"));
        // A job that cannot be read is not told of; it stays hidden until its patience ends, and is reported again then.
        let report = |error: &StoreError| tracing::error!(%error, source = error.source(), "a callback is lost");
        Ok(claimed.iter().filter_map(|row| due(row).inspect_err(report).ok()).collect())
    }

    async fn settle_callback(&self, job: JobId, attempt: u32, outcome: Delivery) -> Result<(), StoreError> {
        let (state, wait, error) = match &outcome {
            Delivery::Delivered => (CallbackState::Delivered, None, None),
            Delivery::Retry { error, after } => (CallbackState::Pending, Some(seconds(*after)), Some(json(error)?)),
            Delivery::GivenUp { error } => (CallbackState::Failed, None, Some(json(error)?)),
        };
        let (id, attempt, state) = (job.as_uuid(), i64::from(attempt), state.as_str());
        let parameters = [
            self.scope.service(),
            (&id as _, Type::UUID),
            (&attempt, Type::INT8),
            (&state, Type::TEXT),
            (&wait, Type::FLOAT8),
            (&error, Type::TEXT),
        ];
        self.scope.repeatable(SETTLE, &parameters).await.map(drop)
    }

    async fn callback_hint(&self) {
        self.waiters.wait(Event::Callbacks).await;
    }
}

fn due(row: &Row) -> Result<DueCallback, StoreError> {
    let job = jobs::read(row)?;
    let callback = job.callback.clone().ok_or_else(|| corrupt(format_args!("job `{}`", job.id))("it has no callback".into()))?;
    Ok(DueCallback { job, url: callback.url, attempt: callback.attempts })
}

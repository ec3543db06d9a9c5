//! The callbacks of jobs that have ended.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use dunnage_types::{CallbackState, JobId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::hints::Event;
use super::rows::{Unreadable, corrupt, get_json, get_number, json, limit as sql_limit, seconds};
use super::{PostgresStore, Scope, jobs};
use crate::{Callbacks, Delivery, DueCallback, StoreError};

/// Replicas that do so at the same time take different ones.
pub(super) const CLAIM: &str = "
    WITH due AS MATERIALIZED (
        SELECT seq, callback_due AS since FROM job
        WHERE service = $1 AND callback_due <= now()
        ORDER BY callback_due
        LIMIT $2
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE job SET callback_due = now() + make_interval(secs => $3), callback_attempts = callback_attempts + 1
    FROM due
    WHERE job.seq = due.seq
    RETURNING job.*, due.since";

const SETTLE: &str = "
    UPDATE job
    SET callback_state = $4, callback_error = $5,
        callback_due = CASE WHEN $4 = 'pending' THEN now() + make_interval(secs => $6) END
    WHERE service = $1 AND id = $2 AND callback_attempts = $3 AND callback_due IS NOT NULL";

#[async_trait]
impl Callbacks for PostgresStore {
    async fn claim_callbacks(&self, limit: u32, patience: Duration) -> Result<Vec<DueCallback>, StoreError> {
        claim(&self.scope, limit, patience).await
    }

    async fn settle_callback(&self, job: JobId, attempt: u32, outcome: Delivery) -> Result<(), StoreError> {
        settle(&self.scope, job, attempt, outcome).await
    }

    async fn callback_hint(&self) {
        self.waiters.wait(Event::Callbacks).await;
    }
}

async fn claim(scope: &Scope, limit: u32, patience: Duration) -> Result<Vec<DueCallback>, StoreError> {
    let (limit, patience) = (sql_limit(limit), seconds(patience));
    let mut rows = scope.once(CLAIM, &[scope.service(), (&limit as _, Type::INT8), (&patience, Type::FLOAT8)]).await?;
    rows.sort_by_cached_key(|row| row.get::<_, SystemTime>("since"));
    // A job that cannot be read is not told of; it stays hidden until its patience ends, and is reported again then.
    let report = |error: &StoreError| tracing::error!(%error, "a callback cannot be read");
    Ok(rows.iter().map(due).filter_map(|due| due.inspect_err(report).ok()).collect())
}

fn due(row: &Row) -> Result<DueCallback, StoreError> {
    let job = jobs::read(row)?;
    let (url, attempt) = target(row).map_err(corrupt(format_args!("the callback of job `{}`", job.id).to_string()))?;
    Ok(DueCallback { job, url, attempt })
}

fn target(row: &Row) -> Result<(String, u32), Unreadable> {
    Ok((get_json(row, "callback")?, get_number(row, "callback_attempts")?))
}

async fn settle(scope: &Scope, job: JobId, attempt: u32, outcome: Delivery) -> Result<(), StoreError> {
    let (state, error, after) = match outcome {
        Delivery::Delivered => (CallbackState::Delivered, None, Duration::ZERO),
        Delivery::Retry { error, after } => (CallbackState::Pending, Some(error), after),
        Delivery::GivenUp { error } => (CallbackState::Failed, Some(error), Duration::ZERO),
    };
    let (id, attempt, after) = (job.as_uuid(), i64::from(attempt), seconds(after));
    let (state, error) = (state.as_str(), error.as_ref().map(json).transpose()?);
    let parameters = [
        scope.service(),
        (&id as _, Type::UUID),
        (&attempt, Type::INT8),
        (&state, Type::TEXT),
        (&error, Type::TEXT),
        (&after, Type::FLOAT8),
    ];
    scope.repeatable(SETTLE, &parameters).await.map(drop)
}

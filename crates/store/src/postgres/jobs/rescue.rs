//! Jobs whose holder is gone.

use std::error::Error;

use dunnage_types::JobError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::row;
use crate::lost::{exhausted, lost};
use crate::postgres::Scope;
use crate::postgres::connection::Parameter;
use crate::postgres::error::is_refusal;
use crate::postgres::hints::Event;
use crate::postgres::rows::{Unreadable, corrupt, get, get_number, get_optional_json, json, seconds};
use crate::{StoreError, backoff};

/// How many jobs are looked up at once.
const PAGE: i64 = 100;

pub(in crate::postgres) const EXPIRED: &str = "
    SELECT seq, id, lease, attempt, max_attempts, error, lease_expires_at > now() AS renewed FROM job
    WHERE service = $1 AND state = 'running' AND (lease_expires_at <= now() OR deadline_at <= now()) AND seq > $2
    ORDER BY seq
    LIMIT $3";

/// Guarded by everything by which the job was found: its holder may have ended it meanwhile, or renewed its lease.
const RETURN: &str = "
    UPDATE job
    SET state = CASE WHEN cancel_requested THEN 'cancelled' WHEN attempt < max_attempts THEN 'queued' ELSE 'error' END,
        error = CASE WHEN NOT cancel_requested THEN $3 END,
        lease_expires_at = NULL,
        run_at = now() + make_interval(secs => $4),
        finished_at = CASE WHEN cancel_requested OR attempt >= max_attempts THEN now() END,
        callback_due = CASE WHEN callback IS NOT NULL AND (cancel_requested OR attempt >= max_attempts) THEN now() END
    WHERE seq = $1 AND state = 'running' AND lease = $2 AND (lease_expires_at <= now() OR deadline_at <= now())
    RETURNING callback_due IS NOT NULL AS has_callback_due";

/// Each job for itself: one that cannot be returned is reported and left for the next time, and the others go on. They are looked at
/// page by page, so that however many cannot be returned hide no other.
pub(super) async fn rescue(scope: &Scope) -> Result<u64, StoreError> {
    let (mut rescued, mut last) = (0, i64::MIN);
    loop {
        let page = scope.repeatable(EXPIRED, &[scope.service(), (&last as _, Type::INT8), (&PAGE, Type::INT8)]).await?;
        for expired in &page {
            last = get(expired, "seq").map_err(corrupt("a job whose lease has ended"))?;
            rescued += u64::from(return_or_report(scope, expired).await?);
        }
        if (page.len() as i64) < PAGE {
            return Ok(rescued);
        }
    }
}

/// Fails only where the database does: it would for all the others too, and each would be waited for.
async fn return_or_report(scope: &Scope, expired: &Row) -> Result<bool, StoreError> {
    match return_to_queue(scope, expired).await {
        Err(error) if !matches!(error, StoreError::Unavailable(_)) || is_refusal(&error) => {
            let job = row::id(expired).map(|id| id.to_string()).unwrap_or_default();
            tracing::error!(%error, source = error.source(), job, "a job whose lease has ended could not be rescued");
            Ok(false)
        }
        outcome => outcome,
    }
}

/// Whether it was ours to return.
async fn return_to_queue(scope: &Scope, expired: &Row) -> Result<bool, StoreError> {
    let Expired { seq, lease, attempt, error } = Expired::read(expired).map_err(corrupt("a job whose lease has ended"))?;
    let (error, wait) = (json(&error)?, seconds(backoff(attempt)));
    let parameters: [Parameter<'_>; 4] = [(&seq, Type::INT8), (&lease, Type::INT8), (&error, Type::TEXT), (&wait, Type::FLOAT8)];
    let rows = scope.once(RETURN, &parameters).await?;
    let Some(returned) = rows.first() else { return Ok(false) };
    scope.tell(Event::Work);
    if get(returned, "has_callback_due").map_err(corrupt("a rescued job"))? {
        scope.tell(Event::Callbacks);
    }
    Ok(true)
}

struct Expired {
    seq: i64,
    lease: i64,
    attempt: u32,
    error: JobError,
}

impl Expired {
    fn read(row: &Row) -> Result<Self, Unreadable> {
        let (attempt, max_attempts) = (get_number(row, "attempt")?, get_number(row, "max_attempts")?);
        let lost = lost(attempt, max_attempts, get(row, "renewed")?);
        // Why the attempt before failed, if that can be read; it must not keep the job from ending.
        let before = || get_optional_json(row, "error").unwrap_or_default();
        let error = if attempt >= max_attempts { exhausted(&lost, before()) } else { lost };
        Ok(Self { seq: get(row, "seq")?, lease: get(row, "lease")?, attempt, error })
    }
}

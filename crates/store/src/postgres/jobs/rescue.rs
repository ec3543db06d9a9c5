//! Jobs whose holder is gone.

use std::error::Error;

use dunnage_types::JobError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

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
    SELECT seq, lease, attempt, max_attempts, error, lease_expires_at > now() AS renewed FROM job
    WHERE service = $1 AND state = 'running' AND (lease_expires_at <= now() OR deadline_at <= now()) AND seq > $2
    ORDER BY seq
    LIMIT $3";

/// Guarded by all that made the job a lost one: its holder may have finished or renewed, or another replica rescued it, since.
pub(in crate::postgres) const RETURN: &str = "
    UPDATE job
    SET state = CASE WHEN cancel_requested THEN 'cancelled' WHEN attempt >= max_attempts THEN 'error' ELSE 'queued' END,
        lease_expires_at = NULL, run_at = now() + make_interval(secs => $4),
        error = CASE WHEN NOT cancel_requested THEN $3 END,
        finished_at = CASE WHEN cancel_requested OR attempt >= max_attempts THEN now() END,
        callback_due = CASE WHEN callback IS NOT NULL AND (cancel_requested OR attempt >= max_attempts) THEN now() END
    WHERE seq = $1 AND state = 'running' AND lease = $2 AND (lease_expires_at <= now() OR deadline_at <= now())
    RETURNING callback_due IS NOT NULL AS has_callback";

/// Each job for itself: one that cannot be returned is reported and left for the next time, and the others go on. They are looked
/// at in the order of `seq`, page by page, so that however many cannot be returned hide no other.
pub(super) async fn rescue(scope: &Scope) -> Result<u64, StoreError> {
    let (mut rescued, mut last) = (0, 0_i64);
    loop {
        let expired = scope.repeatable(EXPIRED, &[scope.service(), (&last as _, Type::INT8), (&PAGE, Type::INT8)]).await?;
        for row in &expired {
            last = get(row, "seq").map_err(corrupt("a job"))?;
            match return_to_queue(scope, row).await {
                Ok(was_lost) => rescued += u64::from(was_lost),
                Err(error) if matches!(error, StoreError::Unavailable(_)) && !is_refusal(&error) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, source = error.source(), seq = last, "a job whose lease has ended could not be rescued");
                }
            }
        }
        if (expired.len() as i64) < PAGE {
            return Ok(rescued);
        }
    }
}

/// Whether the job was still lost.
async fn return_to_queue(scope: &Scope, row: &Row) -> Result<bool, StoreError> {
    let lost = Lost::read(row).map_err(corrupt("a job"))?;
    let (error, wait) = (json(&lost.error)?, seconds(backoff(lost.attempt)));
    let parameters: [Parameter<'_>; 4] =
        [(&lost.seq, Type::INT8), (&lost.lease, Type::INT8), (&error, Type::TEXT), (&wait, Type::FLOAT8)];
    let Some(returned) = scope.once(RETURN, &parameters).await?.pop() else { return Ok(false) };
    scope.tell(Event::Work);
    if get(&returned, "has_callback").map_err(corrupt("a job"))? {
        scope.tell(Event::Callbacks);
    }
    Ok(true)
}

/// A job that has lost its holder.
struct Lost {
    seq: i64,
    lease: i64,
    attempt: u32,
    error: JobError,
}

impl Lost {
    fn read(row: &Row) -> Result<Self, Unreadable> {
        let (attempt, max_attempts) = (get_number(row, "attempt")?, get_number(row, "max_attempts")?);
        let mut error = lost(attempt, max_attempts, get(row, "renewed")?);
        if attempt >= max_attempts {
            // What cannot be read must not keep the job from ending.
            error = exhausted(&error, get_optional_json(row, "error").ok().flatten());
        }
        Ok(Self { seq: get(row, "seq")?, lease: get(row, "lease")?, attempt, error })
    }
}

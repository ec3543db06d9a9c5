//! Cancelling a job.

use dunnage_types::{JobId, JobState};
use tokio_postgres::types::Type;

use crate::postgres::Scope;
use crate::postgres::hints::Event;
use crate::postgres::rows::{corrupt, get_word};
use crate::{Cancelled, StoreError};

const CANCEL: &str = "
    UPDATE job
    SET cancel_requested = true,
        state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
        error = CASE state WHEN 'queued' THEN NULL ELSE error END,
        finished_at = CASE state WHEN 'queued' THEN now() END,
        callback_due = CASE WHEN state = 'queued' AND callback IS NOT NULL THEN now() END
    WHERE service = $1 AND id = $2 AND state IN ('queued', 'running')
    RETURNING state";

const FIND: &str = "SELECT state FROM job WHERE service = $1 AND id = $2";

pub(super) async fn cancel(scope: &Scope, job: JobId) -> Result<Cancelled, StoreError> {
    let id = job.as_uuid();
    let parameters = [scope.service(), (&id as _, Type::UUID)];
    let state = |row| get_word::<JobState>(row, "state").map_err(corrupt(format_args!("the state of job `{job}`").to_string()));
    let cancelled = scope.repeatable(CANCEL, &parameters).await?;
    if let Some(row) = cancelled.first() {
        if state(row)? == JobState::Running {
            return Ok(Cancelled::Requested);
        }
        // It may have held up others of its key.
        scope.tell(Event::Work);
        scope.tell(Event::Callbacks);
        return Ok(Cancelled::Now);
    }
    let found = scope.repeatable(FIND, &parameters).await?;
    match found.first() {
        Some(row) => Ok(Cancelled::Already(state(row)?)),
        None => Err(StoreError::UnknownJob(job)),
    }
}

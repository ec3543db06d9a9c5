//! Cancelling a job.

use dunnage_types::{JobId, JobState};
use tokio_postgres::types::Type;

use crate::postgres::Scope;
use crate::postgres::hints::Event;
use crate::postgres::rows::{corrupt, get, get_word};
use crate::{Cancelled, StoreError};

const CANCEL: &str = "
    UPDATE job
    SET cancel_requested = true,
        state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
        error = CASE state WHEN 'queued' THEN NULL ELSE error END,
        finished_at = CASE state WHEN 'queued' THEN now() END,
        callback_due = CASE WHEN state = 'queued' AND callback IS NOT NULL THEN now() END
    WHERE service = $1 AND id = $2 AND state IN ('queued', 'running')
    RETURNING state, callback_due IS NOT NULL AS has_callback";

const FIND: &str = "SELECT state FROM job WHERE service = $1 AND id = $2";

pub(super) async fn cancel(scope: &Scope, job: JobId) -> Result<Cancelled, StoreError> {
    let id = job.as_uuid();
    let parameters = [scope.service(), (&id as _, Type::UUID)];
    let unreadable = || corrupt(format!("the state of job `{job}`"));
    let Some(row) = scope.once(CANCEL, &parameters).await?.pop() else {
        let row = scope.repeatable(FIND, &parameters).await?.pop().ok_or(StoreError::UnknownJob(job))?;
        return Ok(Cancelled::Already(get_word(&row, "state").map_err(unreadable())?));
    };
    if get(&row, "has_callback").map_err(unreadable())? {
        scope.tell(Event::Callbacks);
    }
    match get_word(&row, "state").map_err(unreadable())? {
        JobState::Running => Ok(Cancelled::Requested),
        _ => {
            scope.tell(Event::Work);
            Ok(Cancelled::Now)
        }
    }
}

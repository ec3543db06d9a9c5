//! Cancelling a job.

use dunnage_types::{JobId, JobState};
use rusqlite::named_params;

use super::ending::{Ending, end};
use crate::sqlite::rows::{Rows, Word};
use crate::{Cancelled, StoreError};

const FIND: &str = "SELECT seq, state FROM job WHERE service = :service AND id = :job";

const REQUEST: &str = "UPDATE job SET cancel_requested = 1 WHERE seq = :seq";

pub(super) fn cancel(rows: &Rows<'_>, job: JobId) -> Result<Cancelled, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":job": Word(job) };
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>("seq")?, row.get::<_, Word<JobState>>("state")?.0));
    let (seq, state) = rows.first(FIND, parameters, read)?.ok_or(StoreError::UnknownJob(job))?;
    if state.is_terminal() {
        return Ok(Cancelled::Already(state));
    }
    rows.execute(REQUEST, named_params! { ":seq": seq })?;
    if state == JobState::Running {
        return Ok(Cancelled::Requested);
    }
    end(rows, seq, Ending::new(JobState::Cancelled))?;
    Ok(Cancelled::Now)
}

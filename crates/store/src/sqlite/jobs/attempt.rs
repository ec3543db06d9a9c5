//! What the holder of a lease may do.

use std::time::Duration;

use dunnage_types::{JobState, NewLogLine, Progress};
use rusqlite::{Row, named_params};

use super::ending::{Ending, end, retry};
use crate::sqlite::rows::{Json, Rows, Word, later};
use crate::sqlite::versions;
use crate::{Finish, Lease, Renewal, StoreError};

pub(super) const HELD: &str = "
    SELECT seq, attempt, max_attempts, cancel_requested FROM job
    WHERE service = :service AND id = :job AND state = 'running' AND lease = :lease";

const RENEW: &str = "UPDATE job SET lease_expires_at = :expires WHERE seq = :seq";

const PROGRESS: &str = "UPDATE job SET progress = :progress WHERE seq = :seq";

pub(super) const APPEND_LOG: &str = "
    INSERT INTO job_log (job, sequence, at, attempt, source, level, message)
    SELECT :seq, coalesce(max(sequence), 0) + 1, :at, :attempt, :source, :level, :message FROM job_log WHERE job = :seq";

const RELEASE: &str = "
    UPDATE job SET state = 'queued', attempt = attempt - 1, lease_expires_at = NULL, started_at = NULL, run_at = :due
    WHERE seq = :seq";

const SETTLE: &str = "UPDATE job SET settled_lease = lease WHERE seq = :seq";

const SETTLED: &str = "SELECT 1 FROM job WHERE service = :service AND id = :job AND settled_lease = :lease";

/// A running job, seen by its holder.
pub(in crate::sqlite) struct Held {
    pub(in crate::sqlite) seq: i64,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    pub(super) cancel_requested: bool,
}

impl Held {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get("seq")?,
            attempt: row.get("attempt")?,
            max_attempts: row.get("max_attempts")?,
            cancel_requested: row.get("cancel_requested")?,
        })
    }

    pub(super) fn is_last_attempt(&self) -> bool {
        self.attempt >= self.max_attempts
    }
}

/// The fence: everything that takes a lease begins here, in the transaction that does the rest.
///
/// A lease that has expired still counts until the job is rescued: so a holder that was merely slow goes on.
pub(in crate::sqlite) fn held(rows: &Rows<'_>, lease: Lease) -> Result<Held, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":job": Word(lease.job), ":lease": lease.number };
    rows.first(HELD, parameters, Held::read)?.ok_or(StoreError::Superseded(lease.job))
}

pub(super) fn renew(rows: &Rows<'_>, lease: Lease, by: Duration) -> Result<Renewal, StoreError> {
    let held = held(rows, lease)?;
    rows.execute(RENEW, named_params! { ":seq": held.seq, ":expires": later(rows.now, by) })?;
    Ok(Renewal { cancel_requested: held.cancel_requested })
}

pub(super) fn progress(rows: &Rows<'_>, lease: Lease, progress: &Progress) -> Result<(), StoreError> {
    let held = held(rows, lease)?;
    rows.execute(PROGRESS, named_params! { ":seq": held.seq, ":progress": Json(progress) }).map(drop)
}

pub(super) fn append_log(rows: &Rows<'_>, lease: Lease, lines: &[NewLogLine]) -> Result<(), StoreError> {
    let held = held(rows, lease)?;
    for line in lines {
        let parameters = named_params! {
            ":seq": held.seq,
            ":at": line.at.0,
            ":attempt": held.attempt,
            ":source": line.source.as_str(),
            ":level": line.level.as_str(),
            ":message": line.message,
        };
        rows.execute(APPEND_LOG, parameters)?;
    }
    Ok(())
}

pub(super) fn finish(rows: &Rows<'_>, lease: Lease, finish: Finish) -> Result<(), StoreError> {
    let held = held(rows, lease)?;
    settle(rows, &held)?;
    match finish {
        Finish::Done { result, activate } => {
            if let Some(version) = activate {
                versions::activate(rows, version)?;
                versions::note_publication(rows, held.seq, version)?;
            }
            end(rows, held.seq, Ending { result: Some(&result), ..Ending::new(JobState::Done) })
        }
        Finish::Failed(error) => end(rows, held.seq, Ending { error: Some(&error), ..Ending::new(JobState::Error) }),
        Finish::Retry { error, after } => retry(rows, &held, &error, after),
        Finish::Cancelled => end(rows, held.seq, Ending::new(JobState::Cancelled)),
    }
}

/// A job whose cancellation was asked for is not queued again: nobody would run it.
pub(super) fn release(rows: &Rows<'_>, lease: Lease, after: Duration) -> Result<(), StoreError> {
    let held = held(rows, lease)?;
    settle(rows, &held)?;
    if held.cancel_requested {
        return end(rows, held.seq, Ending::new(JobState::Cancelled));
    }
    rows.execute(RELEASE, named_params! { ":seq": held.seq, ":due": later(rows.now, after) }).map(drop)
}

/// Notes that the holder itself ends the attempt, in the transaction that does so.
fn settle(rows: &Rows<'_>, held: &Held) -> Result<(), StoreError> {
    rows.execute(SETTLE, named_params! { ":seq": held.seq }).map(drop)
}

pub(super) fn is_settled(rows: &Rows<'_>, lease: Lease) -> Result<bool, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":job": Word(lease.job), ":lease": lease.number };
    Ok(rows.first(SETTLED, parameters, |_| Ok(()))?.is_some())
}

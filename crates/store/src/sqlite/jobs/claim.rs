//! Handing out jobs.

use dunnage_types::{Job, JobError, JobState, ReplicaId, Version};
use rusqlite::{Row, named_params};

use super::ending::{Ending, end};
use super::row;
use crate::sqlite::rows::{Rows, Word, later};
use crate::{Ahead, ClaimedJob, Lease, StoreError, Terms};

/// The jobs that are due, as `candidate`.
///
/// Because only one connection writes, the order of `seq` is the order of commits, and an unfinished job of the same key with
/// a higher `seq` can never be running. A job of a kind that only a later version knows is left for a server of that version.
macro_rules! all_due {
    () => {
        "FROM job AS candidate
        WHERE candidate.service = :service AND candidate.state = 'queued' AND candidate.run_at <= :now
          AND candidate.kind IN ('train', 'input')
          AND (candidate.key IS NULL OR NOT EXISTS (
              SELECT 1 FROM job AS earlier
              WHERE earlier.service = :service AND earlier.key = candidate.key AND earlier.finished_at IS NULL
                AND earlier.seq < candidate.seq))"
    };
}
pub(super) use all_due;

/// Those of them that are next, in their order.
macro_rules! due {
    () => {
        concat!(
            all_due!(),
            "
        ORDER BY candidate.seq
        LIMIT :limit"
        )
    };
}

/// Whether a job may be claimed ahead, as a condition on `candidate`.
macro_rules! can_wait {
    () => {
        "(candidate.kind = 'input' AND candidate.lease = 0 AND candidate.max_attempts > 1)"
    };
}
pub(super) use can_wait;

pub(super) const CLAIM: &str = concat!(
    "
    UPDATE job
    SET state = 'running', attempt = attempt + 1, lease = lease + 1, replica = :replica, lease_expires_at = :expires,
        deadline_at = :deadline, started_at = :now, progress = NULL
    WHERE seq IN (
        SELECT candidate.seq ",
    due!(),
    ")
    RETURNING *"
);

pub(super) const WAITING: &str = concat!("SELECT candidate.* ", due!());

pub(super) const CAN_WAIT: &str = concat!("SELECT ", can_wait!(), " AS can_wait ", due!());

const ACTIVE: &str = "SELECT number FROM version WHERE service = :service AND active = 1";

pub(super) fn claim(rows: &Rows<'_>, replica: ReplicaId, limit: u32, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError> {
    let parameters = named_params! {
        ":service": rows.service,
        ":replica": Word(replica),
        ":expires": later(rows.now, terms.lease),
        ":deadline": later(rows.now, terms.limit),
        ":now": rows.now.0,
        ":limit": limit,
    };
    let active = active(rows)?;
    let mut claimed = rows.all(CLAIM, parameters, |row| Ok::<_, StoreError>((row.get::<_, i64>("seq")?, read(row, active))))?;
    claimed.sort_by_key(|(seq, _)| *seq);
    let mut jobs = Vec::with_capacity(claimed.len());
    for (seq, job) in claimed {
        match job {
            Ok(job) => jobs.push(job),
            Err(error) => end_unreadable(rows, seq, &error)?,
        }
    }
    Ok(jobs)
}

/// Claims the jobs before the first that may not be claimed ahead; that one if it is the next and the worker is idle.
pub(super) fn claim_ahead(rows: &Rows<'_>, replica: ReplicaId, ahead: Ahead, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":now": rows.now.0, ":limit": ahead.limit };
    let can_wait = rows.all(CAN_WAIT, parameters, |row| row.get::<_, bool>("can_wait"))?;
    let together = can_wait.iter().take_while(|can_wait| **can_wait).count();
    let alone = usize::from(ahead.is_idle && !can_wait.is_empty());
    claim(rows, replica, u32::try_from(together.max(alone)).unwrap_or(ahead.limit), terms)
}

pub(super) fn active(rows: &Rows<'_>) -> Result<Option<Version>, StoreError> {
    let number = rows.first(ACTIVE, named_params! { ":service": rows.service }, |row| row.get::<_, u32>("number"))?;
    Ok(number.and_then(Version::new))
}

/// The jobs that would be claimed next, less those that a claim would find unreadable.
pub(super) fn waiting(rows: &Rows<'_>, limit: u32) -> Result<Vec<Job>, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":now": rows.now.0, ":limit": limit };
    let found = rows.all(WAITING, parameters, |row| Ok::<_, StoreError>(row::job(row).ok()))?;
    Ok(found.into_iter().flatten().collect())
}

fn read(row: &Row<'_>, active: Option<Version>) -> Result<ClaimedJob, StoreError> {
    let job = row::job(row)?;
    let lease = Lease { job: job.id, number: row.get("lease")? };
    Ok(ClaimedJob { job, lease, active })
}

/// Ends a job that no attempt can read, lest it stand before the others for ever.
fn end_unreadable(rows: &Rows<'_>, seq: i64, error: &StoreError) -> Result<(), StoreError> {
    tracing::error!(%error, source = std::error::Error::source(error), seq, "a job cannot be read; it ends in `error`");
    let error = JobError {
        code: "job_unreadable".to_owned(),
        message: "the database holds this job in a form that cannot be read; submit it again".to_owned(),
        traceback: None,
    };
    end(rows, seq, Ending { error: Some(&error), ..Ending::new(JobState::Error) })
}

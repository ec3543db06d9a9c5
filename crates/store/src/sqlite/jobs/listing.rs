//! Reading jobs and their logs.

use dunnage_types::{Job, JobId, LogLine, Timestamp};
use rusqlite::{Row, ToSql, named_params};

use super::row;
use crate::sqlite::rows::{Rows, Word};
use crate::{Backlog, JobFilter, JobPage, StoreError};

pub(super) const JOB: &str = "SELECT * FROM job WHERE service = :service AND id = :job";

pub(super) const LOG: &str = "
    SELECT line.sequence, line.at, line.attempt, line.source, line.level, line.message
    FROM job JOIN job_log AS line ON line.job = job.seq
    WHERE job.service = :service AND job.id = :job AND line.sequence > :after
    ORDER BY line.sequence
    LIMIT :limit";

pub(super) const BACKLOG: &str = "
    SELECT (SELECT count(*) FROM job WHERE service = :service AND state = 'queued') AS queued,
           (SELECT count(*) FROM job WHERE service = :service AND state = 'running') AS running,
           (SELECT created_at FROM job WHERE service = :service AND state = 'queued' ORDER BY seq LIMIT 1) AS oldest";

pub(super) fn job(rows: &Rows<'_>, job: JobId) -> Result<Option<Job>, StoreError> {
    let found = rows.all(JOB, named_params! { ":service": rows.service, ":job": Word(job) }, row::job)?;
    Ok(found.into_iter().next())
}

/// Asks for one job more than fit, to know whether there is a next page.
pub(super) fn jobs(rows: &Rows<'_>, filter: &JobFilter) -> Result<JobPage, StoreError> {
    let before = filter.before.unwrap_or(i64::MAX);
    let more = i64::from(filter.limit) + 1;
    let (state, kind) = (filter.state.map(Word), filter.kind.map(Word));
    let mut parameters: Vec<(&str, &dyn ToSql)> = vec![(":service", &rows.service), (":before", &before), (":limit", &more)];
    parameters.extend(state.as_ref().map(|state| (":state", state as &dyn ToSql)));
    parameters.extend(kind.as_ref().map(|kind| (":kind", kind as &dyn ToSql)));
    parameters.extend(filter.key.as_ref().map(|key| (":key", key as &dyn ToSql)));
    let read = |row: &Row<'_>| Ok::<_, StoreError>((row.get("seq")?, row::job(row)?));
    let found: Vec<(i64, Job)> = rows.all(&list(filter), parameters.as_slice(), read)?;
    Ok(page(found, filter.limit as usize))
}

/// The conditions are left out, not made optional in SQL, so that each combination gets the plan it deserves.
pub(super) fn list(filter: &JobFilter) -> String {
    let state = if filter.state.is_some() { "AND state = :state" } else { "" };
    let kind = if filter.kind.is_some() { "AND kind = :kind" } else { "" };
    let key = if filter.key.is_some() { "AND key = :key" } else { "" };
    format!("SELECT * FROM job WHERE service = :service {state} {kind} {key} AND seq < :before ORDER BY seq DESC LIMIT :limit")
}

fn page(mut found: Vec<(i64, Job)>, limit: usize) -> JobPage {
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(seq, _)| *seq);
    JobPage { jobs: found.into_iter().map(|(_, job)| job).collect(), next }
}

pub(super) fn log(rows: &Rows<'_>, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
    let parameters = named_params! {
        ":service": rows.service,
        ":job": Word(job),
        ":after": i64::try_from(after).unwrap_or(i64::MAX),
        ":limit": limit,
    };
    let lines = rows.all(LOG, parameters, line)?;
    if lines.is_empty() && self::job(rows, job)?.is_none() {
        return Err(StoreError::UnknownJob(job));
    }
    Ok(lines)
}

fn line(row: &Row<'_>) -> Result<LogLine, StoreError> {
    Ok(LogLine {
        sequence: row.get::<_, i64>("sequence")?.unsigned_abs(),
        at: Timestamp(row.get("at")?),
        attempt: row.get("attempt")?,
        source: row.get::<_, Word<_>>("source")?.0,
        level: row.get::<_, Word<_>>("level")?.0,
        message: row.get("message")?,
    })
}

pub(super) fn backlog(rows: &Rows<'_>) -> Result<Backlog, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(Backlog {
            queued: row.get::<_, i64>("queued")?.unsigned_abs(),
            running: row.get::<_, i64>("running")?.unsigned_abs(),
            oldest_queued: row.get::<_, Option<i64>>("oldest")?.map(Timestamp),
        })
    };
    Ok(rows.first(BACKLOG, named_params! { ":service": rows.service }, read)?.unwrap_or_default())
}

//! Reading jobs and their logs.

use dunnage_types::{Job, JobId, LogLine};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::row;
use crate::postgres::Scope;
use crate::postgres::rows::{Unreadable, corrupt, get, get_json, get_number, get_optional_time, get_time, get_word, limit, optional_json};
use crate::{Backlog, JobFilter, JobPage, StoreError};

pub(in crate::postgres) const JOB: &str = "SELECT * FROM job WHERE service = $1 AND id = $2";

pub(in crate::postgres) const LOG: &str = "
    SELECT line.sequence, line.at, line.attempt, line.source, line.level, line.message
    FROM job JOIN job_log AS line ON line.job = job.seq
    WHERE job.service = $1 AND job.id = $2 AND line.sequence > $3
    ORDER BY line.sequence
    LIMIT $4";

pub(in crate::postgres) const BACKLOG: &str = "
    SELECT (SELECT count(*) FROM job WHERE service = $1 AND state = 'queued') AS queued,
           (SELECT count(*) FROM job WHERE service = $1 AND state = 'running') AS running,
           (SELECT created_at FROM job WHERE service = $1 AND state = 'queued' ORDER BY seq LIMIT 1) AS oldest";

pub(super) async fn job(scope: &Scope, job: JobId) -> Result<Option<Job>, StoreError> {
    let id = job.as_uuid();
    let found = scope.repeatable(JOB, &[scope.service(), (&id as _, Type::UUID)]).await?;
    found.first().map(row::job).transpose()
}

/// Asks for one job more than fit, to know whether there is a next page.
pub(super) async fn jobs(scope: &Scope, filter: &JobFilter) -> Result<JobPage, StoreError> {
    let (before, more) = (filter.before.unwrap_or(i64::MAX), limit(filter.limit) + 1);
    let (state, kind) = (filter.state.map(|state| state.as_str()), filter.kind.map(|kind| kind.as_str()));
    let key = optional_json(filter.key.as_ref())?;
    let mut parameters = vec![scope.service(), (&before as _, Type::INT8), (&more as _, Type::INT8)];
    parameters.extend(state.as_ref().map(|state| (state as _, Type::TEXT)));
    parameters.extend(kind.as_ref().map(|kind| (kind as _, Type::TEXT)));
    parameters.extend(key.as_ref().map(|key| (key as _, Type::TEXT)));
    let found = scope.repeatable(&list(filter), &parameters).await?;
    let read = |row: &Row| Ok((get(row, "seq").map_err(corrupt("a job"))?, row::job(row)?));
    Ok(page(found.iter().map(read).collect::<Result<_, StoreError>>()?, filter.limit as usize))
}

/// The conditions are left out, not made optional in SQL, so that each combination gets the plan it deserves.
pub(in crate::postgres) fn list(filter: &JobFilter) -> String {
    let mut conditions = String::new();
    let wanted = [("state", filter.state.is_some()), ("kind", filter.kind.is_some()), ("key", filter.key.is_some())];
    for (number, (column, _)) in (4..).zip(wanted.into_iter().filter(|(_, is_wanted)| *is_wanted)) {
        conditions.push_str(&format!(" AND {column} = ${number}"));
    }
    format!("SELECT * FROM job WHERE service = $1 AND seq < $2{conditions} ORDER BY seq DESC LIMIT $3")
}

fn page(mut found: Vec<(i64, Job)>, limit: usize) -> JobPage {
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(seq, _)| *seq);
    JobPage { jobs: found.into_iter().map(|(_, job)| job).collect(), next }
}

pub(super) async fn log(scope: &Scope, job: JobId, after: u64, most: u32) -> Result<Vec<LogLine>, StoreError> {
    let (id, after, most) = (job.as_uuid(), i64::try_from(after).unwrap_or(i64::MAX), limit(most));
    let parameters = [scope.service(), (&id as _, Type::UUID), (&after, Type::INT8), (&most, Type::INT8)];
    let lines = scope.repeatable(LOG, &parameters).await?;
    if lines.is_empty() && scope.repeatable(JOB, &parameters[..2]).await?.is_empty() {
        return Err(StoreError::UnknownJob(job));
    }
    lines.iter().map(|row| line(row).map_err(corrupt(format_args!("a line of the log of job `{job}`")))).collect()
}

fn line(row: &Row) -> Result<LogLine, Unreadable> {
    Ok(LogLine {
        sequence: get_number(row, "sequence")?,
        at: get_time(row, "at")?,
        attempt: get_number(row, "attempt")?,
        source: get_word(row, "source")?,
        level: get_word(row, "level")?,
        message: get_json(row, "message")?,
    })
}

pub(super) async fn backlog(scope: &Scope) -> Result<Backlog, StoreError> {
    let found = scope.repeatable(BACKLOG, &[scope.service()]).await?;
    let read = |row: &Row| {
        let oldest_queued = get_optional_time(row, "oldest")?;
        Ok(Backlog { queued: get_number(row, "queued")?, running: get_number(row, "running")?, oldest_queued })
    };
    found.first().map(read).transpose().map(Option::unwrap_or_default).map_err(corrupt("a count of jobs"))
}

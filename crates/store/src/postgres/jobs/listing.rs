//! Reading jobs.

use dunnage_types::{Job, JobId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::row;
use crate::postgres::Scope;
use crate::postgres::connection::Parameter;
use crate::postgres::rows::{Unreadable, corrupt, get, get_optional_time, limit as sql_limit, optional_json};
use crate::{Backlog, JobFilter, JobPage, StoreError};

pub(in crate::postgres) const JOB: &str = "SELECT * FROM job WHERE service = $1 AND id = $2";

pub(in crate::postgres) const BACKLOG: &str = "
    SELECT (SELECT count(*) FROM job WHERE service = $1 AND state = 'queued') AS queued,
           (SELECT count(*) FROM job WHERE service = $1 AND state = 'running') AS running,
           (SELECT created_at FROM job WHERE service = $1 AND state = 'queued' ORDER BY seq LIMIT 1) AS oldest";

pub(super) async fn job(scope: &Scope, job: JobId) -> Result<Option<Job>, StoreError> {
    let id = job.as_uuid();
    let rows = scope.repeatable(JOB, &[scope.service(), (&id, Type::UUID)]).await?;
    rows.first().map(row::job).transpose()
}

/// Asks for one job more than fit, to know whether there is a next page.
pub(super) async fn jobs(scope: &Scope, filter: &JobFilter) -> Result<JobPage, StoreError> {
    let (before, more) = (filter.before.unwrap_or(i64::MAX), sql_limit(filter.limit) + 1);
    let (state, kind) = (filter.state.map(|state| state.as_str()), filter.kind.map(|kind| kind.as_str()));
    let key = optional_json(filter.key.as_ref())?;
    let mut parameters: Vec<Parameter<'_>> = vec![scope.service(), (&before, Type::INT8), (&more, Type::INT8)];
    parameters.extend(state.as_ref().map(|state| (state as _, Type::TEXT)));
    parameters.extend(kind.as_ref().map(|kind| (kind as _, Type::TEXT)));
    parameters.extend(key.as_ref().map(|key| (key as _, Type::TEXT)));
    let rows = scope.repeatable(&list(filter), &parameters).await?;
    let found = rows.iter().map(numbered).collect::<Result<Vec<_>, _>>()?;
    Ok(page(found, filter.limit as usize))
}

/// The conditions are left out, not made optional in SQL, so that each combination gets the plan it deserves. Jobs that have ended and
/// jobs that have not have indexes of their own.
pub(in crate::postgres) fn list(filter: &JobFilter) -> String {
    let columns = [("state", filter.state.is_some()), ("kind", filter.kind.is_some()), ("key", filter.key.is_some())];
    let wanted = columns.iter().filter(|(_, is_wanted)| *is_wanted);
    let conditions: String = (4..).zip(wanted).map(|(number, (column, _))| format!(" AND {column} = ${number}")).collect();
    let part =
        |ended: &str| format!("SELECT * FROM job WHERE service = $1 AND seq < $2{conditions}{ended} ORDER BY seq DESC LIMIT $3");
    match filter.state {
        Some(state) if state.is_terminal() => part(" AND finished_at IS NOT NULL"),
        None if filter.key.is_some() => {
            let key = if filter.kind.is_some() { "$5" } else { "$4" };
            let unended = part(&format!(" AND finished_at IS NULL AND service || ' ' || key = $1 || ' ' || {key}"));
            let ended = part(" AND finished_at IS NOT NULL");
            format!("SELECT * FROM (({ended}) UNION ALL ({unended})) AS job ORDER BY seq DESC LIMIT $3")
        }
        Some(_) | None => part(""),
    }
}

fn numbered(row: &Row) -> Result<(i64, Job), StoreError> {
    Ok((get(row, "seq").map_err(corrupt("the number of a job"))?, row::job(row)?))
}

fn page(mut found: Vec<(i64, Job)>, limit: usize) -> JobPage {
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(seq, _)| *seq);
    JobPage { jobs: found.into_iter().map(|(_, job)| job).collect(), next }
}

pub(super) async fn backlog(scope: &Scope) -> Result<Backlog, StoreError> {
    let rows = scope.repeatable(BACKLOG, &[scope.service()]).await?;
    rows.first().map_or(Ok(Backlog::default()), |row| counted(row).map_err(corrupt("the backlog")))
}

fn counted(row: &Row) -> Result<Backlog, Unreadable> {
    let count = |name| get::<i64>(row, name).map(i64::unsigned_abs);
    Ok(Backlog { queued: count("queued")?, running: count("running")?, oldest_queued: get_optional_time(row, "oldest")? })
}

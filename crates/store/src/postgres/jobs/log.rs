//! The logs of jobs.

use std::time::SystemTime;

use async_trait::async_trait;
use dunnage_types::{JobId, LogLine, NewLogLine};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::keep::{answers, columns};
use super::listing;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::rows::{
    Unreadable, corrupt, get, get_json, get_number, get_time, get_word, json, limit as sql_limit, system_time,
};
use crate::{Lease, StoreError};

/// The numbers of the lines are drawn from a counter on the job's row, whose lock fences the lines too.
pub(in crate::postgres) const APPEND: &str = "
    WITH held AS MATERIALIZED (
        SELECT job.seq, wanted.lines
        FROM unnest($2::uuid[], $3::int8[], $4::int8[]) AS wanted (id, lease, lines)
        JOIN job ON job.service = $1 AND job.id = wanted.id AND job.state = 'running' AND job.lease = wanted.lease
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job),
    counted AS (
        UPDATE job SET log_lines = job.log_lines + held.lines
        FROM held
        WHERE job.seq = held.seq
        RETURNING job.id, job.seq, job.attempt, job.log_lines - held.lines AS before),
    appended AS (
        INSERT INTO job_log (job, sequence, at, attempt, source, level, message)
        SELECT counted.seq, counted.before + line.position, line.at, counted.attempt, line.source, line.level, line.message
        FROM unnest($5::uuid[], $6::int8[], $7::timestamptz[], $8::text[], $9::text[], $10::text[])
            AS line (id, position, at, source, level, message)
        JOIN counted ON counted.id = line.id)
    SELECT id FROM counted";

pub(in crate::postgres) const READ: &str = "
    SELECT line.sequence, line.at, line.attempt, line.source, line.level, line.message
    FROM job JOIN job_log AS line ON line.job = job.seq
    WHERE job.service = $1 AND job.id = $2 AND line.sequence > $3
    ORDER BY line.sequence
    LIMIT $4";

/// Lines for the log of a job.
pub(super) struct Lines {
    pub(super) lease: Lease,
    pub(super) lines: Vec<NewLogLine>,
}

pub(super) struct Append(pub(super) Scope);

#[async_trait]
impl Batch for Append {
    type Call = Lines;
    type Answer = ();
    /// The lines would stand there twice.
    const IS_REPEATABLE: bool = false;

    fn job(call: &Lines) -> Option<JobId> {
        Some(call.lease.job)
    }

    async fn run(&self, calls: &[Lines]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let (ids, leases) = columns(calls.iter().map(|call| call.lease));
        let counts: Vec<_> = calls.iter().map(|call| call.lines.len() as i64).collect();
        let lines = Columns::of(calls)?;
        let parameters = [
            self.0.service(),
            (&ids as _, Type::UUID_ARRAY),
            (&leases, Type::INT8_ARRAY),
            (&counts, Type::INT8_ARRAY),
            (&lines.ids, Type::UUID_ARRAY),
            (&lines.positions, Type::INT8_ARRAY),
            (&lines.times, Type::TIMESTAMPTZ_ARRAY),
            (&lines.sources, Type::TEXT_ARRAY),
            (&lines.levels, Type::TEXT_ARRAY),
            (&lines.messages, Type::TEXT_ARRAY),
        ];
        let rows = self.0.once(APPEND, &parameters).await?;
        answers(calls.iter().map(|call| call.lease), &rows, |_| Ok(()))
    }
}

/// Every line of every call, column by column.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    positions: Vec<i64>,
    times: Vec<SystemTime>,
    sources: Vec<&'static str>,
    levels: Vec<&'static str>,
    messages: Vec<String>,
}

impl Columns {
    fn of(calls: &[Lines]) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for call in calls {
            for (position, line) in (1..).zip(&call.lines) {
                columns.ids.push(call.lease.job.as_uuid());
                columns.positions.push(position);
                columns.times.push(system_time(line.at));
                columns.sources.push(line.source.as_str());
                columns.levels.push(line.level.as_str());
                columns.messages.push(json(&line.message)?);
            }
        }
        Ok(columns)
    }
}

pub(super) async fn read(scope: &Scope, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
    let (id, after, limit) = (job.as_uuid(), i64::try_from(after).unwrap_or(i64::MAX), sql_limit(limit));
    let parameters = [scope.service(), (&id as _, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8)];
    let rows = scope.repeatable(READ, &parameters).await?;
    if rows.is_empty() && listing::job(scope, job).await?.is_none() {
        return Err(StoreError::UnknownJob(job));
    }
    rows.iter().map(|row| line(row).map_err(corrupt(format_args!("a line of the log of job `{job}`").to_string()))).collect()
}

fn line(row: &Row) -> Result<LogLine, Unreadable> {
    Ok(LogLine {
        sequence: get::<i64>(row, "sequence")?.unsigned_abs(),
        at: get_time(row, "at")?,
        attempt: get_number(row, "attempt")?,
        source: get_word(row, "source")?,
        level: get_word(row, "level")?,
        message: get_json(row, "message")?,
    })
}

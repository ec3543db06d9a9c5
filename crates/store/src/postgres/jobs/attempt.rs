//! What the holder of a lease may do while it holds it: renew it, and say how far it has come.
//!
//! Every statement is guarded by the job, its state and its lease, and locks the job's row until the commit: a rescue and another
//! claim could otherwise be committed between the check and the write. A lease that has expired still counts until the job is
//! rescued: so a holder that was merely slow goes on.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use dunnage_types::{JobId, NewLogLine, Progress};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::row;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::connection::Pool;
use crate::postgres::rows::{corrupt, get, json, seconds, system_time};
use crate::{Lease, Renewal, StoreError};

pub(in crate::postgres) const RENEW: &str = "
    WITH wanted AS (SELECT * FROM unnest($2::uuid[], $3::int8[], $4::float8[]) AS wanted (id, lease, by)),
    held AS MATERIALIZED (
        SELECT job.seq, wanted.by
        FROM wanted JOIN job ON job.service = $1 AND job.id = wanted.id AND job.lease = wanted.lease AND job.state = 'running'
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job)
    UPDATE job SET lease_expires_at = now() + make_interval(secs => held.by)
    FROM held
    WHERE job.seq = held.seq
    RETURNING job.id, job.cancel_requested";

pub(in crate::postgres) const PROGRESS: &str = "
    WITH wanted AS (SELECT * FROM unnest($2::uuid[], $3::int8[], $4::text[]) AS wanted (id, lease, progress)),
    held AS MATERIALIZED (
        SELECT job.seq, wanted.progress
        FROM wanted JOIN job ON job.service = $1 AND job.id = wanted.id AND job.lease = wanted.lease AND job.state = 'running'
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job)
    UPDATE job SET progress = held.progress
    FROM held
    WHERE job.seq = held.seq
    RETURNING job.id";

/// The lines are numbered by a counter on the job, which is raised under the same lock.
pub(in crate::postgres) const APPEND_LOG: &str = "
    WITH wanted AS (SELECT * FROM unnest($2::uuid[], $3::int8[], $4::int8[]) AS wanted (id, lease, lines)),
    line AS (
        SELECT * FROM unnest($5::uuid[], $6::int8[], $7::timestamptz[], $8::text[], $9::text[], $10::text[])
            AS line (id, number, at, source, level, message)),
    held AS MATERIALIZED (
        SELECT job.seq, wanted.lines
        FROM wanted JOIN job ON job.service = $1 AND job.id = wanted.id AND job.lease = wanted.lease AND job.state = 'running'
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job),
    counted AS (
        UPDATE job SET log_lines = log_lines + held.lines
        FROM held
        WHERE job.seq = held.seq
        RETURNING job.seq, job.id, job.attempt, job.log_lines - held.lines AS before),
    appended AS (
        INSERT INTO job_log (job, sequence, at, attempt, source, level, message)
        SELECT counted.seq, counted.before + line.number, line.at, counted.attempt, line.source, line.level, line.message
        FROM counted JOIN line USING (id))
    SELECT id FROM counted";

const SETTLED: &str = "SELECT 1 FROM job WHERE service = $1 AND id = $2 AND settled_lease = $3";

pub(super) struct Renew {
    pub(super) scope: Scope,
    /// Connections of their own: renewals must not wait behind anything else.
    pub(super) pool: Pool,
}

#[async_trait]
impl Batch for Renew {
    type Call = (Lease, Duration);
    type Answer = Renewal;
    const IS_REPEATABLE: bool = true;

    fn job((lease, _): &Self::Call) -> Option<JobId> {
        Some(lease.job)
    }

    async fn run(&self, calls: &[Self::Call]) -> Result<Vec<Result<Renewal, StoreError>>, StoreError> {
        let (ids, leases) = split(calls.iter().map(|(lease, _)| *lease));
        let by: Vec<_> = calls.iter().map(|(_, by)| seconds(*by)).collect();
        let parameters =
            [self.scope.service(), (&ids as _, Type::UUID_ARRAY), (&leases, Type::INT8_ARRAY), (&by, Type::FLOAT8_ARRAY)];
        let mut renewed = HashMap::new();
        for row in &self.pool.once(RENEW, &parameters).await? {
            let cancel_requested = get(row, "cancel_requested").map_err(corrupt("a job"))?;
            renewed.insert(row::id(row)?, Renewal { cancel_requested });
        }
        Ok(calls.iter().map(|(lease, _)| renewed.remove(&lease.job).ok_or(StoreError::Superseded(lease.job))).collect())
    }
}

pub(super) struct NoteProgress(pub(super) Scope);

impl NoteProgress {
    pub(super) fn call(lease: Lease, progress: &Progress) -> Result<(Lease, String), StoreError> {
        Ok((lease, json(progress)?))
    }
}

#[async_trait]
impl Batch for NoteProgress {
    type Call = (Lease, String);
    type Answer = ();
    const IS_REPEATABLE: bool = true;

    fn job((lease, _): &Self::Call) -> Option<JobId> {
        Some(lease.job)
    }

    async fn run(&self, calls: &[Self::Call]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let (ids, leases) = split(calls.iter().map(|(lease, _)| *lease));
        let progress: Vec<_> = calls.iter().map(|(_, progress)| progress.as_str()).collect();
        let parameters =
            [self.0.service(), (&ids as _, Type::UUID_ARRAY), (&leases, Type::INT8_ARRAY), (&progress, Type::TEXT_ARRAY)];
        let noted = self.0.once(PROGRESS, &parameters).await?.iter().map(row::id).collect::<Result<HashSet<_>, _>>()?;
        Ok(calls.iter().map(|(lease, _)| held(&noted, *lease)).collect())
    }
}

pub(super) struct AppendLog(pub(super) Scope);

#[async_trait]
impl Batch for AppendLog {
    type Call = (Lease, Vec<NewLogLine>);
    type Answer = ();
    /// The lines would be there twice.
    const IS_REPEATABLE: bool = false;

    fn job((lease, _): &Self::Call) -> Option<JobId> {
        Some(lease.job)
    }

    async fn run(&self, calls: &[Self::Call]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let (ids, leases) = split(calls.iter().map(|(lease, _)| *lease));
        let counts: Vec<_> = calls.iter().map(|(_, lines)| lines.len() as i64).collect();
        let lines: Vec<(Uuid, i64, &NewLogLine)> = calls
            .iter()
            .flat_map(|(lease, lines)| (1..).zip(lines).map(|(number, line)| (lease.job.as_uuid(), number, line)))
            .collect();
        let line_ids: Vec<_> = lines.iter().map(|(id, ..)| *id).collect();
        let numbers: Vec<_> = lines.iter().map(|(_, number, _)| *number).collect();
        let times: Vec<SystemTime> = lines.iter().map(|(.., line)| system_time(line.at)).collect();
        let sources: Vec<_> = lines.iter().map(|(.., line)| line.source.as_str()).collect();
        let levels: Vec<_> = lines.iter().map(|(.., line)| line.level.as_str()).collect();
        let messages = lines.iter().map(|(.., line)| json(&line.message)).collect::<Result<Vec<_>, _>>()?;
        let parameters = [
            self.0.service(),
            (&ids as _, Type::UUID_ARRAY),
            (&leases, Type::INT8_ARRAY),
            (&counts, Type::INT8_ARRAY),
            (&line_ids, Type::UUID_ARRAY),
            (&numbers, Type::INT8_ARRAY),
            (&times, Type::TIMESTAMPTZ_ARRAY),
            (&sources, Type::TEXT_ARRAY),
            (&levels, Type::TEXT_ARRAY),
            (&messages, Type::TEXT_ARRAY),
        ];
        let appended = self.0.once(APPEND_LOG, &parameters).await?.iter().map(row::id).collect::<Result<HashSet<_>, _>>()?;
        Ok(calls.iter().map(|(lease, _)| held(&appended, *lease)).collect())
    }
}

pub(super) async fn is_settled(scope: &Scope, lease: Lease) -> Result<bool, StoreError> {
    let id = lease.job.as_uuid();
    let parameters = [scope.service(), (&id as _, Type::UUID), (&lease.number, Type::INT8)];
    Ok(!scope.repeatable(SETTLED, &parameters).await?.is_empty())
}

fn split(leases: impl Iterator<Item = Lease>) -> (Vec<Uuid>, Vec<i64>) {
    leases.map(|lease| (lease.job.as_uuid(), lease.number)).unzip()
}

fn held(held: &HashSet<JobId>, lease: Lease) -> Result<(), StoreError> {
    if held.contains(&lease.job) { Ok(()) } else { Err(StoreError::Superseded(lease.job)) }
}

//! What the holder of a lease says while it works: that it is still there, and how far it has come.
//!
//! Rows are locked in the order of their `seq` before they are changed, here and wherever several change at once, so that two
//! statements cannot wait for each other.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::JobId;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::row;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::rows::{corrupt, get, seconds};
use crate::{Lease, Renewal, StoreError};

pub(in crate::postgres) const RENEW: &str = "
    WITH held AS MATERIALIZED (
        SELECT job.seq, wanted.by
        FROM unnest($2::uuid[], $3::int8[], $4::float8[]) AS wanted (id, lease, by)
        JOIN job ON job.service = $1 AND job.id = wanted.id AND job.state = 'running' AND job.lease = wanted.lease
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job)
    UPDATE job SET lease_expires_at = now() + make_interval(secs => held.by)
    FROM held
    WHERE job.seq = held.seq
    RETURNING job.id, job.cancel_requested";

pub(in crate::postgres) const NOTE_PROGRESS: &str = "
    WITH held AS MATERIALIZED (
        SELECT job.seq, wanted.progress
        FROM unnest($2::uuid[], $3::int8[], $4::text[]) AS wanted (id, lease, progress)
        JOIN job ON job.service = $1 AND job.id = wanted.id AND job.state = 'running' AND job.lease = wanted.lease
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job)
    UPDATE job SET progress = held.progress
    FROM held
    WHERE job.seq = held.seq
    RETURNING job.id";

/// A lease to be prolonged.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) lease: Lease,
    pub(super) by: Duration,
}

pub(super) struct Renew(pub(super) Scope);

#[async_trait]
impl Batch for Renew {
    type Call = Wanted;
    type Answer = Renewal;
    const IS_REPEATABLE: bool = true;

    fn job(call: &Wanted) -> Option<JobId> {
        Some(call.lease.job)
    }

    async fn run(&self, calls: &[Wanted]) -> Result<Vec<Result<Renewal, StoreError>>, StoreError> {
        let (ids, leases) = columns(calls.iter().map(|call| call.lease));
        let by: Vec<_> = calls.iter().map(|call| seconds(call.by)).collect();
        let parameters = [self.0.service(), (&ids as _, Type::UUID_ARRAY), (&leases, Type::INT8_ARRAY), (&by, Type::FLOAT8_ARRAY)];
        let rows = self.0.once(RENEW, &parameters).await?;
        answers(calls.iter().map(|call| call.lease), &rows, |row| {
            Ok(Renewal { cancel_requested: get(row, "cancel_requested").map_err(corrupt("a renewal"))? })
        })
    }
}

/// How far an attempt has come, as JSON.
pub(super) struct Note {
    pub(super) lease: Lease,
    pub(super) progress: String,
}

pub(super) struct NoteProgress(pub(super) Scope);

#[async_trait]
impl Batch for NoteProgress {
    type Call = Note;
    type Answer = ();
    const IS_REPEATABLE: bool = true;

    fn job(call: &Note) -> Option<JobId> {
        Some(call.lease.job)
    }

    async fn run(&self, calls: &[Note]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let (ids, leases) = columns(calls.iter().map(|call| call.lease));
        let progress: Vec<_> = calls.iter().map(|call| call.progress.as_str()).collect();
        let parameters =
            [self.0.service(), (&ids as _, Type::UUID_ARRAY), (&leases, Type::INT8_ARRAY), (&progress, Type::TEXT_ARRAY)];
        let rows = self.0.once(NOTE_PROGRESS, &parameters).await?;
        answers(calls.iter().map(|call| call.lease), &rows, |_| Ok(()))
    }
}

/// Leases as the columns by which statements take them.
pub(super) fn columns(leases: impl Iterator<Item = Lease>) -> (Vec<Uuid>, Vec<i64>) {
    leases.map(|lease| (lease.job.as_uuid(), lease.number)).unzip()
}

/// What each holder is told: what `read` makes of its job's row, or that it holds the job no longer where there is none.
pub(super) fn answers<T>(
    leases: impl Iterator<Item = Lease>,
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, StoreError>,
) -> Result<Vec<Result<T, StoreError>>, StoreError> {
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        found.insert(row::id(row)?, read(row)?);
    }
    Ok(leases.map(|lease| found.remove(&lease.job).ok_or(StoreError::Superseded(lease.job))).collect())
}

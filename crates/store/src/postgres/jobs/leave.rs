//! The ways out of an attempt: the end, and the queue.

use std::collections::HashMap;

use async_trait::async_trait;
use dunnage_types::{JobId, Version};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::row;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::connection::{Parameter, Transaction};
use crate::postgres::hints::Event;
use crate::postgres::rows::{corrupt, get, json, seconds};
use crate::postgres::versions;
use crate::{Finish, Lease, StoreError};

/// Ends attempts, and with them their jobs unless they are to be tried again. The rows are locked in the order of `seq` first, as
/// by every statement that changes several: two that did so in different orders would block each other.
///
/// A job whose cancellation was asked for is not queued again: nobody would run it. One that is handed back keeps its `run_at`, and
/// so its place at the head of the queue.
pub(in crate::postgres) const LEAVE: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($2::uuid[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::int8[])
            AS wanted (id, lease, way, result, error, after, version)),
    held AS MATERIALIZED (
        SELECT job.seq, wanted.way, wanted.result, wanted.error, wanted.after, wanted.version,
               CASE WHEN wanted.way IN ('done', 'error', 'cancelled') THEN wanted.way
                    WHEN job.cancel_requested THEN 'cancelled'
                    WHEN wanted.way = 'retry' AND job.attempt >= job.max_attempts THEN 'error'
                    ELSE 'queued' END AS state
        FROM wanted JOIN job ON job.service = $1 AND job.id = wanted.id AND job.lease = wanted.lease AND job.state = 'running'
        ORDER BY job.seq
        FOR NO KEY UPDATE OF job)
    UPDATE job
    SET state = held.state, settled_lease = job.lease, lease_expires_at = NULL, result = held.result,
        error = CASE WHEN held.state IN ('done', 'cancelled') THEN NULL
                     WHEN held.way = 'release' THEN job.error
                     ELSE held.error END,
        version = coalesce(held.version, job.version),
        attempt = CASE WHEN held.way = 'release' AND held.state = 'queued' THEN job.attempt - 1 ELSE job.attempt END,
        started_at = CASE WHEN held.way = 'release' AND held.state = 'queued' THEN NULL ELSE job.started_at END,
        run_at = CASE WHEN held.way = 'retry' AND held.state = 'queued' THEN now() + make_interval(secs => held.after)
                      ELSE job.run_at END,
        finished_at = CASE WHEN held.state <> 'queued' THEN now() END,
        callback_due = CASE WHEN held.state <> 'queued' AND job.callback IS NOT NULL THEN now() END
    FROM held
    WHERE job.seq = held.seq
    RETURNING job.id, job.callback_due IS NOT NULL AS has_callback";

/// A lease that is given up, and how.
pub(super) struct Leaving {
    lease: Lease,
    way: &'static str,
    result: Option<String>,
    error: Option<String>,
    after: f64,
    version: Option<i64>,
}

impl Leaving {
    pub(super) fn finish(lease: Lease, finish: &Finish) -> Result<Self, StoreError> {
        let by = |way| Self { lease, way, result: None, error: None, after: 0.0, version: None };
        Ok(match finish {
            Finish::Done { result, activate } => {
                let version = activate.map(|version| i64::from(version.get()));
                Self { result: Some(json(result)?), version, ..by("done") }
            }
            Finish::Failed(error) => Self { error: Some(json(error)?), ..by("error") },
            Finish::Retry { error, after } => Self { error: Some(json(error)?), after: seconds(*after), ..by("retry") },
            Finish::Cancelled => by("cancelled"),
        })
    }

    /// Hands the job back uncharged.
    pub(super) fn release(lease: Lease) -> Self {
        Self { lease, way: "release", result: None, error: None, after: 0.0, version: None }
    }
}

pub(super) struct Leave(pub(super) Scope);

#[async_trait]
impl Batch for Leave {
    type Call = Leaving;
    type Answer = ();
    /// Who asks again is told that the attempt is over, and cannot know who ended it.
    const IS_REPEATABLE: bool = false;

    fn job(leaving: &Leaving) -> Option<JobId> {
        Some(leaving.lease.job)
    }

    async fn run(&self, calls: &[Leaving]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        leave(&self.0, calls).await
    }
}

/// Gives up leases, of one job each.
pub(super) async fn leave(scope: &Scope, calls: &[Leaving]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let columns = Columns::of(calls);
    let left = Left::read(&scope.once(LEAVE, &columns.parameters(scope)).await?)?;
    left.tell(scope);
    Ok(calls.iter().map(|call| left.answer(call.lease.job)).collect())
}

/// Gives up a lease and makes a version the active one, or does neither.
pub(super) async fn activate_and_leave(scope: &Scope, leaving: Leaving, version: Version) -> Result<(), StoreError> {
    let mut transaction = scope.begin().await?;
    let left = try_both(scope, &mut transaction, &leaving, version).await;
    let left = transaction.end(left).await?;
    left.tell(scope);
    scope.tell(Event::Versions);
    left.answer(leaving.lease.job)
}

/// The job is left first: whoever has lost it learns that, and not what is wrong with its version.
async fn try_both(scope: &Scope, transaction: &mut Transaction, leaving: &Leaving, version: Version) -> Result<Left, StoreError> {
    versions::lock(scope, transaction).await?;
    let columns = Columns::of(std::slice::from_ref(leaving));
    let left = Left::read(&transaction.query(LEAVE, &columns.parameters(scope)).await?)?;
    left.answer(leaving.lease.job)?;
    versions::activate_within(scope, transaction, version).await?;
    Ok(left)
}

/// The jobs that were left, and whether somebody is to be told of their end.
struct Left(HashMap<JobId, bool>);

impl Left {
    fn read(rows: &[Row]) -> Result<Self, StoreError> {
        let read = |row: &Row| Ok((row::id(row)?, get(row, "has_callback").map_err(corrupt("a job"))?));
        rows.iter().map(read).collect::<Result<_, StoreError>>().map(Self)
    }

    fn tell(&self, scope: &Scope) {
        if !self.0.is_empty() {
            scope.tell(Event::Work);
        }
        if self.0.values().any(|has_callback| *has_callback) {
            scope.tell(Event::Callbacks);
        }
    }

    fn answer(&self, job: JobId) -> Result<(), StoreError> {
        if self.0.contains_key(&job) { Ok(()) } else { Err(StoreError::Superseded(job)) }
    }
}

/// The calls, column by column.
struct Columns<'a> {
    ids: Vec<Uuid>,
    leases: Vec<i64>,
    ways: Vec<&'a str>,
    results: Vec<Option<&'a str>>,
    errors: Vec<Option<&'a str>>,
    after: Vec<f64>,
    versions: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    fn of(calls: &'a [Leaving]) -> Self {
        Self {
            ids: calls.iter().map(|call| call.lease.job.as_uuid()).collect(),
            leases: calls.iter().map(|call| call.lease.number).collect(),
            ways: calls.iter().map(|call| call.way).collect(),
            results: calls.iter().map(|call| call.result.as_deref()).collect(),
            errors: calls.iter().map(|call| call.error.as_deref()).collect(),
            after: calls.iter().map(|call| call.after).collect(),
            versions: calls.iter().map(|call| call.version).collect(),
        }
    }

    fn parameters<'b>(&'b self, scope: &'b Scope) -> [Parameter<'b>; 8] {
        [
            scope.service(),
            (&self.ids, Type::UUID_ARRAY),
            (&self.leases, Type::INT8_ARRAY),
            (&self.ways, Type::TEXT_ARRAY),
            (&self.results, Type::TEXT_ARRAY),
            (&self.errors, Type::TEXT_ARRAY),
            (&self.after, Type::FLOAT8_ARRAY),
            (&self.versions, Type::INT8_ARRAY),
        ]
    }
}

//! The ways out of an attempt that its holder takes: the end, and the queue.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{JobError, JobId};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::keep::{answers, columns};
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::connection::{Parameter, Transaction};
use crate::postgres::hints::Event;
use crate::postgres::rows::{Unreadable, corrupt, get, optional_json, seconds};
use crate::{Finish, Lease, StoreError};

/// Holders leave their attempts, each if it still holds it.
pub(in crate::postgres) const LEAVE: &str = "SELECT * FROM leave_jobs($1, $2, $3, $4, $5, $6, $7)";

const SETTLED: &str = "SELECT 1 FROM job WHERE service = $1 AND id = $2 AND settled_lease = $3";

/// How an attempt is left, in the form in which statements take it.
pub(in crate::postgres) struct Leaving {
    lease: Lease,
    way: &'static str,
    result: Option<String>,
    error: Option<String>,
    wait: f64,
}

impl Leaving {
    pub(in crate::postgres) fn finish(lease: Lease, finish: &Finish) -> Result<Self, StoreError> {
        match finish {
            Finish::Done { result, .. } => Self::new(lease, "done", Some(result), None, Duration::ZERO),
            Finish::Failed(error) => Self::new(lease, "error", None, Some(error), Duration::ZERO),
            Finish::Retry { error, after } => Self::new(lease, "retry", None, Some(error), *after),
            Finish::Cancelled => Self::new(lease, "cancelled", None, None, Duration::ZERO),
        }
    }

    pub(super) fn release(lease: Lease, after: Duration) -> Self {
        Self { lease, way: "release", result: None, error: None, wait: seconds(after) }
    }

    fn new(
        lease: Lease,
        way: &'static str,
        result: Option<&Value>,
        error: Option<&JobError>,
        wait: Duration,
    ) -> Result<Self, StoreError> {
        Ok(Self { lease, way, result: optional_json(result)?, error: optional_json(error)?, wait: seconds(wait) })
    }
}

pub(super) struct Leave(pub(super) Scope);

#[async_trait]
impl Batch for Leave {
    type Call = Leaving;
    type Answer = ();
    /// The second time, it would be refused; whoever asked finds out by [`is_settled`].
    const IS_REPEATABLE: bool = false;

    fn job(call: &Leaving) -> Option<JobId> {
        Some(call.lease.job)
    }

    async fn run(&self, calls: &[Leaving]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        leave(&self.0, calls).await
    }
}

/// Lets holders leave their attempts, each if it still holds it.
pub(super) async fn leave(scope: &Scope, calls: &[Leaving]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let columns = Columns::of(calls);
    let rows = scope.once(LEAVE, &columns.parameters(scope)).await?;
    for (event, happened) in told(&rows).map_err(corrupt("the end of a job"))? {
        if happened {
            scope.tell(event);
        }
    }
    answers(calls.iter().map(|call| call.lease), &rows, |_| Ok(()))
}

/// Lets one holder leave its attempt, within a transaction that does more. Whoever commits it tells those who wait.
pub(in crate::postgres) async fn leave_within(
    transaction: &mut Transaction,
    scope: &Scope,
    leaving: &Leaving,
) -> Result<(), StoreError> {
    let columns = Columns::of(std::slice::from_ref(leaving));
    let rows = transaction.query(LEAVE, &columns.parameters(scope)).await?;
    if rows.is_empty() { Err(StoreError::Superseded(leaving.lease.job)) } else { Ok(()) }
}

pub(super) async fn is_settled(scope: &Scope, lease: Lease) -> Result<bool, StoreError> {
    let id = lease.job.as_uuid();
    let rows = scope.repeatable(SETTLED, &[scope.service(), (&id, Type::UUID), (&lease.number, Type::INT8)]).await?;
    Ok(!rows.is_empty())
}

/// What others are to be told of.
fn told(rows: &[Row]) -> Result<[(Event, bool); 2], Unreadable> {
    let (mut frees_work, mut has_callback_due) = (false, false);
    for row in rows {
        frees_work |= get::<bool>(row, "frees_work")?;
        has_callback_due |= get::<bool>(row, "has_callback_due")?;
    }
    Ok([(Event::Work, frees_work), (Event::Callbacks, has_callback_due)])
}

/// The calls, column by column.
struct Columns<'a> {
    ids: Vec<Uuid>,
    leases: Vec<i64>,
    ways: Vec<&'static str>,
    results: Vec<Option<&'a str>>,
    errors: Vec<Option<&'a str>>,
    waits: Vec<f64>,
}

impl<'a> Columns<'a> {
    fn of(calls: &'a [Leaving]) -> Self {
        let (ids, leases) = columns(calls.iter().map(|call| call.lease));
        Self {
            ids,
            leases,
            ways: calls.iter().map(|call| call.way).collect(),
            results: calls.iter().map(|call| call.result.as_deref()).collect(),
            errors: calls.iter().map(|call| call.error.as_deref()).collect(),
            waits: calls.iter().map(|call| call.wait).collect(),
        }
    }

    fn parameters<'b>(&'b self, scope: &'b Scope) -> [Parameter<'b>; 7] {
        [
            scope.service(),
            (&self.ids, Type::UUID_ARRAY),
            (&self.leases, Type::INT8_ARRAY),
            (&self.ways, Type::TEXT_ARRAY),
            (&self.results, Type::TEXT_ARRAY),
            (&self.errors, Type::TEXT_ARRAY),
            (&self.waits, Type::FLOAT8_ARRAY),
        ]
    }
}

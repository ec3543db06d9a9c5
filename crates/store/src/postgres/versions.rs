//! What training has published.

use async_trait::async_trait;
use dunnage_types::{ModelVersion, Version, VersionState};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connection::Transaction;
use super::hints::Event;
use super::jobs::{self, Leaving, leave_within};
use super::rows::{Unreadable, corrupt, get, get_json, get_optional_json, get_time, get_word, json};
use super::{PostgresStore, Scope};
use crate::{Finish, Lease, StoreError, Versions};

/// Whoever numbers, activates or blames versions of a service comes one after the other. A finish that nobody waits for any more may
/// still be under way: whoever retracts its version must not come in between its check and its commit. In a statement of its own, so
/// that what follows sees what was committed before. Taken before any row is locked.
const TAKE_TURN: &str = "SELECT pg_advisory_xact_lock(hashtextextended('dunnage versions ' || $1, 0))";

const PUBLISH: &str = "
    WITH held AS MATERIALIZED (
        SELECT seq, id FROM job WHERE service = $1 AND id = $2 AND state = 'running' AND lease = $3 FOR NO KEY UPDATE),
    published AS (
        INSERT INTO version (service, number, state, artifact, job, created_at)
        SELECT $1, (SELECT coalesce(max(number), 0) + 1 FROM version WHERE service = $1), 'ready', $4, held.id, now() FROM held
        RETURNING number)
    UPDATE job SET version = published.number
    FROM held, published
    WHERE job.seq = held.seq
    RETURNING published.number";

const NOTE_PUBLICATION: &str = "UPDATE job SET version = $3 WHERE service = $1 AND id = $2";

const FIND_STATE: &str = "SELECT state FROM version WHERE service = $1 AND number = $2";

/// Two statements: an index that lets one version be active at most is checked row by row.
const DEACTIVATE: &str = "UPDATE version SET active = false WHERE service = $1 AND active";
const ACTIVATE: &str = "UPDATE version SET active = true WHERE service = $1 AND number = $2";

const MARK_BAD: &str = "UPDATE version SET state = 'bad', error = $3 WHERE service = $1 AND number = $2 RETURNING number";

/// Finds a version, and keeps the job that it is from, if that is still known, as it is until the commit.
const HOLD_TRAINER: &str = "
    WITH trainer AS MATERIALIZED (
        SELECT job.seq FROM job JOIN version ON version.service = job.service AND version.job = job.id
        WHERE version.service = $1 AND version.number = $2
        FOR SHARE OF job)
    SELECT number, (SELECT count(*) FROM trainer) AS trainers FROM version WHERE service = $1 AND number = $2";

/// A version whose job ended well with it was trained well.
const RETRACT: &str = "
    UPDATE version SET state = 'bad', error = $3
    WHERE service = $1 AND number = $2 AND NOT active
      AND NOT EXISTS (
          SELECT 1 FROM job WHERE job.service = $1 AND job.id = version.job AND job.state = 'done' AND job.version = version.number)
    RETURNING number";

const RETRACT_ORPHANS: &str = "
    UPDATE version SET state = 'bad', error = $2
    WHERE service = $1 AND state = 'ready' AND NOT active
      AND EXISTS (
          SELECT 1 FROM job
          WHERE job.service = $1 AND job.id = version.job AND job.state <> 'running'
            AND NOT (job.state = 'done' AND job.version = version.number))
    RETURNING number";

const ACTIVE: &str = "SELECT * FROM version WHERE service = $1 AND active";

const ALL: &str = "SELECT * FROM version WHERE service = $1 ORDER BY number DESC";

#[async_trait]
impl Versions for PostgresStore {
    async fn publish(&self, lease: Lease, artifact: &str) -> Result<Version, StoreError> {
        let artifact = json(artifact)?;
        let mut transaction = self.scope.begin().await?;
        let outcome = publish(&mut transaction, &self.scope, lease, &artifact).await;
        transaction.end(outcome).await
    }

    async fn activate(&self, version: Version) -> Result<(), StoreError> {
        let mut transaction = self.scope.begin().await?;
        let outcome = activate(&mut transaction, &self.scope, version).await;
        transaction.end(outcome).await?;
        self.scope.tell(Event::Versions);
        Ok(())
    }

    async fn mark_bad(&self, version: Version, error: &str) -> Result<(), StoreError> {
        let mut transaction = self.scope.begin().await?;
        let outcome = blame(&mut transaction, &self.scope, MARK_BAD, version, error).await;
        transaction.end(outcome).await.map(drop)
    }

    async fn retract(&self, version: Version, error: &str) -> Result<bool, StoreError> {
        let mut transaction = self.scope.begin().await?;
        let outcome = blame(&mut transaction, &self.scope, RETRACT, version, error).await;
        transaction.end(outcome).await
    }

    async fn retract_orphans(&self) -> Result<u64, StoreError> {
        let mut transaction = self.scope.begin().await?;
        let outcome = retract_orphans(&mut transaction, &self.scope).await;
        transaction.end(outcome).await
    }

    async fn active(&self) -> Result<Option<ModelVersion>, StoreError> {
        let rows = self.scope.repeatable(ACTIVE, &[self.scope.service()]).await?;
        rows.first().map(read).transpose()
    }

    async fn versions(&self) -> Result<Vec<ModelVersion>, StoreError> {
        self.scope.repeatable(ALL, &[self.scope.service()]).await?.iter().map(read).collect()
    }

    async fn version_hint(&self) {
        self.waiters.wait(Event::Versions).await;
    }
}

/// Ends a job as done and makes the version it published the active one, both or neither.
pub(super) async fn finish_and_activate(scope: &Scope, lease: Lease, finish: &Finish, version: Version) -> Result<(), StoreError> {
    let leaving = Leaving::finish(lease, finish)?;
    let mut transaction = scope.begin().await?;
    let outcome = activate_and_leave(&mut transaction, scope, lease, &leaving, version).await;
    transaction.end(outcome).await?;
    [Event::Versions, Event::Work, Event::Callbacks].into_iter().for_each(|event| scope.tell(event));
    Ok(())
}

async fn activate_and_leave(
    transaction: &mut Transaction,
    scope: &Scope,
    lease: Lease,
    leaving: &Leaving,
    version: Version,
) -> Result<(), StoreError> {
    take_turn(transaction, scope).await?;
    leave_within(transaction, scope, leaving).await?;
    activate(transaction, scope, version).await?;
    let (id, number) = (lease.job.as_uuid(), i64::from(version.get()));
    let parameters = [scope.service(), (&id as _, Type::UUID), (&number, Type::INT8)];
    transaction.query(NOTE_PUBLICATION, &parameters).await.map(drop)
}

async fn publish(transaction: &mut Transaction, scope: &Scope, lease: Lease, artifact: &str) -> Result<Version, StoreError> {
    take_turn(transaction, scope).await?;
    let id = lease.job.as_uuid();
    let parameters = [scope.service(), (&id as _, Type::UUID), (&lease.number, Type::INT8), (&artifact, Type::TEXT)];
    let rows = transaction.query(PUBLISH, &parameters).await?;
    let published = rows.first().ok_or(StoreError::Superseded(lease.job))?;
    number(published).map_err(corrupt("the number of a version"))
}

async fn activate(transaction: &mut Transaction, scope: &Scope, version: Version) -> Result<(), StoreError> {
    take_turn(transaction, scope).await?;
    let number = i64::from(version.get());
    let parameters = [scope.service(), (&number as _, Type::INT8)];
    let found = transaction.query(FIND_STATE, &parameters).await?;
    let found = found.first().ok_or(StoreError::UnknownVersion(version))?;
    match get_word(found, "state").map_err(corrupt("the state of a version"))? {
        VersionState::Bad => return Err(StoreError::BadVersion(version)),
        VersionState::Ready => {}
    }
    transaction.query(DEACTIVATE, &[scope.service()]).await?;
    transaction.query(ACTIVATE, &parameters).await.map(drop)
}

async fn take_turn(transaction: &mut Transaction, scope: &Scope) -> Result<(), StoreError> {
    transaction.query(TAKE_TURN, &[scope.service()]).await.map(drop)
}

/// Marks a version bad by one of the statements that do; whether it did.
async fn blame(transaction: &mut Transaction, scope: &Scope, sql: &str, version: Version, error: &str) -> Result<bool, StoreError> {
    take_turn(transaction, scope).await?;
    let (number, error) = (i64::from(version.get()), json(error)?);
    let parameters = [scope.service(), (&number as _, Type::INT8), (&error, Type::TEXT)];
    if transaction.query(HOLD_TRAINER, &parameters[..2]).await?.is_empty() {
        return Err(StoreError::UnknownVersion(version));
    }
    Ok(!transaction.query(sql, &parameters).await?.is_empty())
}

async fn retract_orphans(transaction: &mut Transaction, scope: &Scope) -> Result<u64, StoreError> {
    take_turn(transaction, scope).await?;
    let error = json("its training was cut off")?;
    Ok(transaction.query(RETRACT_ORPHANS, &[scope.service(), (&error, Type::TEXT)]).await?.len() as u64)
}

fn read(row: &Row) -> Result<ModelVersion, StoreError> {
    decode(row).map_err(corrupt("a version"))
}

fn decode(row: &Row) -> Result<ModelVersion, Unreadable> {
    Ok(ModelVersion {
        version: number(row)?,
        state: get_word(row, "state")?,
        active: get(row, "active")?,
        artifact: get_json(row, "artifact")?,
        job: get::<uuid::Uuid>(row, "job")?.into(),
        created_at: get_time(row, "created_at")?,
        error: get_optional_json(row, "error")?,
    })
}

fn number(row: &Row) -> Result<Version, Unreadable> {
    jobs::version(get(row, "number")?)
}

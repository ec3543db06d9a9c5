//! What training has published.

use async_trait::async_trait;
use dunnage_types::{ModelVersion, Version, VersionState};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::Transaction;
use super::hints::Event;
use super::rows::{Unreadable, corrupt, get, get_json, get_optional_json, get_time, get_word, json};
use super::{PostgresStore, Scope, jobs};
use crate::{Lease, StoreError, Versions};

/// Publications, activations and retractions of a service come one after the other. In a statement of its own, so that what
/// follows sees what was committed before.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('dunnage versions ' || $1, 0))";

const PUBLISH: &str = "
    WITH held AS MATERIALIZED (
        SELECT seq FROM job WHERE service = $1 AND id = $2 AND state = 'running' AND lease = $3 FOR NO KEY UPDATE),
    published AS (
        INSERT INTO version (service, number, state, artifact, job, created_at)
        SELECT $1, (SELECT coalesce(max(number), 0) + 1 FROM version WHERE service = $1), 'ready', $4, $2, now() FROM held
        RETURNING number)
    UPDATE job SET version = published.number
    FROM held, published
    WHERE job.seq = held.seq
    RETURNING published.number";

const FIND_STATE: &str = "SELECT state FROM version WHERE service = $1 AND number = $2";

const DEACTIVATE: &str = "UPDATE version SET active = false WHERE service = $1 AND active";

const ACTIVATE: &str = "UPDATE version SET active = true WHERE service = $1 AND number = $2";

const MARK_BAD: &str = "UPDATE version SET state = 'bad', error = $3 WHERE service = $1 AND number = $2 RETURNING number";

/// Keeps the job that a version is from as it is until the commit.
const HOLD_TRAINER: &str = "
    SELECT 1 FROM job JOIN version ON version.service = job.service AND version.job = job.id
    WHERE version.service = $1 AND version.number = $2
    FOR SHARE OF job";

/// A version whose job ended well with it, or whose job is no longer known, was trained well.
const RETRACT: &str = "
    UPDATE version SET state = 'bad', error = $3
    WHERE service = $1 AND number = $2 AND NOT active
      AND NOT EXISTS (
          SELECT 1 FROM job WHERE job.service = $1 AND job.id = version.job AND job.state = 'done' AND job.version = version.number)
    RETURNING number";

/// A job that does not run can only come to serve this version by running first, and then it publishes another.
const RETRACT_ORPHANS: &str = "
    UPDATE version SET state = 'bad', error = $2
    WHERE service = $1 AND state = 'ready' AND NOT active
      AND EXISTS (
          SELECT 1 FROM job
          WHERE job.service = $1 AND job.id = version.job AND job.state <> 'running'
            AND NOT (job.state = 'done' AND job.version = version.number))
    RETURNING number";

pub(super) const ACTIVE: &str = "SELECT * FROM version WHERE service = $1 AND active";

pub(super) const ALL: &str = "SELECT * FROM version WHERE service = $1 ORDER BY number DESC";

#[async_trait]
impl Versions for PostgresStore {
    async fn publish(&self, lease: Lease, artifact: &str) -> Result<Version, StoreError> {
        let mut transaction = self.scope.begin().await?;
        let published = publish(&self.scope, &mut transaction, lease, artifact).await;
        transaction.end(published).await
    }

    async fn activate(&self, version: Version) -> Result<(), StoreError> {
        let mut transaction = self.scope.begin().await?;
        let activated = activate(&self.scope, &mut transaction, version).await;
        transaction.end(activated).await?;
        self.scope.tell(Event::Versions);
        Ok(())
    }

    async fn mark_bad(&self, version: Version, error: &str) -> Result<(), StoreError> {
        let mut transaction = self.scope.begin().await?;
        let marked = mark_bad(&self.scope, &mut transaction, version, error).await;
        transaction.end(marked).await
    }

    async fn retract(&self, version: Version, error: &str) -> Result<bool, StoreError> {
        let mut transaction = self.scope.begin().await?;
        let retracted = retract(&self.scope, &mut transaction, version, error).await;
        transaction.end(retracted).await
    }

    async fn retract_orphans(&self) -> Result<u64, StoreError> {
        let mut transaction = self.scope.begin().await?;
        let retracted = retract_orphans(&self.scope, &mut transaction).await;
        transaction.end(retracted).await
    }

    async fn active(&self) -> Result<Option<ModelVersion>, StoreError> {
        self.scope.repeatable(ACTIVE, &[self.scope.service()]).await?.first().map(read).transpose()
    }

    async fn versions(&self) -> Result<Vec<ModelVersion>, StoreError> {
        self.scope.repeatable(ALL, &[self.scope.service()]).await?.iter().map(read).collect()
    }

    async fn version_hint(&self) {
        self.waiters.wait(Event::Versions).await;
    }
}

async fn publish(scope: &Scope, transaction: &mut Transaction, lease: Lease, artifact: &str) -> Result<Version, StoreError> {
    lock(scope, transaction).await?;
    let (id, artifact) = (lease.job.as_uuid(), json(artifact)?);
    let parameters =
        [scope.service(), (&id as _, Type::UUID), (&lease.number, Type::INT8), (&artifact, Type::TEXT)];
    let published = transaction.query(PUBLISH, &parameters).await?.pop().ok_or(StoreError::Superseded(lease.job))?;
    get(&published, "number").and_then(jobs::version).map_err(corrupt("a version"))
}

/// Keeps others from the service's versions until the transaction ends. Taken before any row is.
pub(super) async fn lock(scope: &Scope, transaction: &mut Transaction) -> Result<(), StoreError> {
    transaction.query(LOCK, &[scope.service()]).await.map(drop)
}

async fn activate(scope: &Scope, transaction: &mut Transaction, version: Version) -> Result<(), StoreError> {
    lock(scope, transaction).await?;
    activate_within(scope, transaction, version).await
}

/// Makes a version the active one, in a transaction that holds the lock.
pub(super) async fn activate_within(scope: &Scope, transaction: &mut Transaction, version: Version) -> Result<(), StoreError> {
    let number = i64::from(version.get());
    let parameters = [scope.service(), (&number as _, Type::INT8)];
    let found = transaction.query(FIND_STATE, &parameters).await?.pop().ok_or(StoreError::UnknownVersion(version))?;
    if let VersionState::Bad = get_word(&found, "state").map_err(corrupt(format_args!("version {version}")))? {
        return Err(StoreError::BadVersion(version));
    }
    transaction.query(DEACTIVATE, &parameters[..1]).await?;
    transaction.query(ACTIVATE, &parameters).await.map(drop)
}

async fn mark_bad(scope: &Scope, transaction: &mut Transaction, version: Version, error: &str) -> Result<(), StoreError> {
    lock(scope, transaction).await?;
    let (number, error) = (i64::from(version.get()), json(error)?);
    let parameters = [scope.service(), (&number as _, Type::INT8), (&error, Type::TEXT)];
    transaction.query(MARK_BAD, &parameters).await?.pop().map(drop).ok_or(StoreError::UnknownVersion(version))
}

async fn retract(scope: &Scope, transaction: &mut Transaction, version: Version, error: &str) -> Result<bool, StoreError> {
    lock(scope, transaction).await?;
    let (number, error) = (i64::from(version.get()), json(error)?);
    let parameters = [scope.service(), (&number as _, Type::INT8), (&error, Type::TEXT)];
    transaction.query(FIND_STATE, &parameters[..2]).await?.pop().ok_or(StoreError::UnknownVersion(version))?;
    transaction.query(HOLD_TRAINER, &parameters[..2]).await?;
    Ok(!transaction.query(RETRACT, &parameters).await?.is_empty())
}

async fn retract_orphans(scope: &Scope, transaction: &mut Transaction) -> Result<u64, StoreError> {
    lock(scope, transaction).await?;
    let error = json("its training was cut off")?;
    Ok(transaction.query(RETRACT_ORPHANS, &[scope.service(), (&error as _, Type::TEXT)]).await?.len() as u64)
}

fn read(row: &Row) -> Result<ModelVersion, StoreError> {
    decode(row).map_err(corrupt("a version"))
}

fn decode(row: &Row) -> Result<ModelVersion, Unreadable> {
    Ok(ModelVersion {
        version: jobs::version(get(row, "number")?)?,
        state: get_word(row, "state")?,
        active: get(row, "active")?,
        artifact: get_json(row, "artifact")?,
        job: get::<Uuid>(row, "job")?.into(),
        created_at: get_time(row, "created_at")?,
        error: get_optional_json(row, "error")?,
    })
}

//! What training has published.

use async_trait::async_trait;
use dunnage_types::{JobId, ModelVersion, Timestamp, Version, VersionState};
use rusqlite::{Row, named_params};

use super::SqliteStore;
use super::jobs::held;
use super::rows::{Rows, Word};
use crate::{Lease, StoreError, Versions};

const PUBLISH: &str = "
    INSERT INTO version (service, number, state, artifact, job, created_at)
    SELECT :service, coalesce(max(number), 0) + 1, 'ready', :artifact, :job, :now FROM version WHERE service = :service
    RETURNING number";

const NOTE_PUBLICATION: &str = "UPDATE job SET version = :number WHERE seq = :seq";

const FIND_STATE: &str = "SELECT state FROM version WHERE service = :service AND number = :number";

const DEACTIVATE: &str = "UPDATE version SET active = 0 WHERE service = :service AND active = 1";

const ACTIVATE: &str = "UPDATE version SET active = 1 WHERE service = :service AND number = :number";

const MARK_BAD: &str = "UPDATE version SET state = 'bad', error = :error WHERE service = :service AND number = :number";

/// A version whose job ended well with it, or whose job is no longer known, was trained well.
const RETRACT: &str = "
    UPDATE version SET state = 'bad', error = :error
    WHERE service = :service AND number = :number AND NOT active
      AND NOT EXISTS (
          SELECT 1 FROM job WHERE job.service = :service AND job.id = version.job AND job.state = 'done' AND job.version = version.number)";

const RETRACT_ORPHANS: &str = "
    UPDATE version SET state = 'bad', error = 'its training was cut off'
    WHERE service = :service AND state = 'ready' AND NOT active
      AND EXISTS (
          SELECT 1 FROM job
          WHERE job.service = :service AND job.id = version.job AND job.state <> 'running'
            AND NOT (job.state = 'done' AND job.version = version.number))";

const ACTIVE: &str = "SELECT * FROM version WHERE service = :service AND active = 1";

const ALL: &str = "SELECT * FROM version WHERE service = :service ORDER BY number DESC";

#[async_trait]
impl Versions for SqliteStore {
    async fn publish(&self, lease: Lease, artifact: &str) -> Result<Version, StoreError> {
        let artifact = artifact.to_owned();
        self.write(move |rows| publish(rows, lease, &artifact)).await
    }

    async fn activate(&self, version: Version) -> Result<(), StoreError> {
        self.write_and_tell(|hints| &hints.versions, move |rows| activate(rows, version)).await
    }

    async fn mark_bad(&self, version: Version, error: &str) -> Result<(), StoreError> {
        let error = error.to_owned();
        self.write(move |rows| mark_bad(rows, version, &error)).await
    }

    async fn retract(&self, version: Version, error: &str) -> Result<bool, StoreError> {
        let error = error.to_owned();
        self.write(move |rows| retract(rows, version, &error)).await
    }

    async fn retract_orphans(&self) -> Result<u64, StoreError> {
        self.write(|rows| Ok(rows.execute(RETRACT_ORPHANS, named_params! { ":service": rows.service })? as u64)).await
    }

    async fn active(&self) -> Result<Option<ModelVersion>, StoreError> {
        self.read(|rows| Ok(rows.all(ACTIVE, named_params! { ":service": rows.service }, read)?.pop())).await
    }

    async fn versions(&self) -> Result<Vec<ModelVersion>, StoreError> {
        self.read(|rows| rows.all(ALL, named_params! { ":service": rows.service }, read)).await
    }

    async fn version_hint(&self) {
        self.hints.versions.notified().await;
    }
}

fn publish(rows: &Rows<'_>, lease: Lease, artifact: &str) -> Result<Version, StoreError> {
    let held = held(rows, lease)?;
    let parameters = named_params! {
        ":service": rows.service,
        ":artifact": artifact,
        ":job": Word(lease.job),
        ":now": rows.now.0,
    };
    let number = rows.all(PUBLISH, parameters, number)?.pop().ok_or(StoreError::Superseded(lease.job))?;
    note_publication(rows, held.seq, number)?;
    Ok(number)
}

/// Notes on a job's row which version it published.
pub(super) fn note_publication(rows: &Rows<'_>, seq: i64, version: Version) -> Result<(), StoreError> {
    rows.execute(NOTE_PUBLICATION, named_params! { ":seq": seq, ":number": version.get() }).map(drop)
}

/// Makes a version the active one, within the transaction that may also end its job.
pub(super) fn activate(rows: &Rows<'_>, version: Version) -> Result<(), StoreError> {
    let parameters = named_params! { ":service": rows.service, ":number": version.get() };
    let state = rows.first(FIND_STATE, parameters, |row| Ok(row.get::<_, Word<VersionState>>("state")?.0))?;
    match state {
        None => return Err(StoreError::UnknownVersion(version)),
        Some(VersionState::Bad) => return Err(StoreError::BadVersion(version)),
        Some(VersionState::Ready) => {}
    }
    rows.execute(DEACTIVATE, named_params! { ":service": rows.service })?;
    rows.execute(ACTIVATE, parameters).map(drop)
}

fn mark_bad(rows: &Rows<'_>, version: Version, error: &str) -> Result<(), StoreError> {
    let parameters = named_params! { ":service": rows.service, ":number": version.get(), ":error": error };
    match rows.execute(MARK_BAD, parameters)? {
        0 => Err(StoreError::UnknownVersion(version)),
        _ => Ok(()),
    }
}

fn retract(rows: &Rows<'_>, version: Version, error: &str) -> Result<bool, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":number": version.get() };
    rows.first(FIND_STATE, parameters, |_| Ok(()))?.ok_or(StoreError::UnknownVersion(version))?;
    let parameters = named_params! { ":service": rows.service, ":number": version.get(), ":error": error };
    Ok(rows.execute(RETRACT, parameters)? > 0)
}

fn read(row: &Row<'_>) -> Result<ModelVersion, StoreError> {
    Ok(ModelVersion {
        version: number(row)?,
        state: row.get::<_, Word<_>>("state")?.0,
        active: row.get("active")?,
        artifact: row.get("artifact")?,
        job: row.get::<_, Word<JobId>>("job")?.0,
        created_at: Timestamp(row.get("created_at")?),
        error: row.get("error")?,
    })
}

fn number(row: &Row<'_>) -> Result<Version, StoreError> {
    let number = row.get("number")?;
    Version::new(number).ok_or_else(|| StoreError::Corrupt { what: "a version".to_owned(), source: "its number is 0".into() })
}

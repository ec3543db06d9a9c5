//! Where a server keeps everything: opened at the start, and cleared of what earlier lives left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dunnage_files::{Bucket, Files};
use dunnage_store::{BUSY_TIMEOUT, FolderLock, JobFilter, PostgresSettings, PostgresStore, SqliteStore, StateLimits, Store};
use dunnage_types::{FileAddress, JobState, ReplicaId, ServiceName};

use crate::artifacts::{self, ArtifactLimits, Artifacts, RemoteArtifacts};
use crate::config::{Config, DatabaseConfig};
use crate::serve::ServeError;

/// How many jobs are read at once when uploads are swept.
const SWEEP_PAGE: u32 = 1000;
/// In a folder that replicas share, only what has not changed for so long is swept: something younger may be in the making.
const SHARED_SWEEP_AGE: Duration = Duration::from_hours(24);
/// How long a database that does not answer is waited for at the start; it may be starting as well.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);

/// The database, the files and the artifacts of a server.
pub(crate) struct Storage {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) files: Files,
    pub(crate) artifacts: Artifacts,
}

/// Opens everything for the life `replica`.
///
/// The embedded database is for one server, which holds its data folder alone. With PostgreSQL, replicas may share the folder.
pub(crate) async fn open(config: &Config, replica: ReplicaId) -> Result<Storage, ServeError> {
    let (name, data_dir) = (config.service.name.as_str(), &config.storage.data_dir);
    let lock = config.storage.database.is_none().then(|| FolderLock::take(data_dir)).transpose()?;
    // Before the database, which cannot be opened on a disk that an unfinished artifact has filled.
    let artifacts = open_artifacts(data_dir, &config.service.name, replica, ArtifactLimits::default(), None)?;
    let files = open_files(config.storage.files_root.as_deref(), &data_dir.join("uploads").join(name))?;
    let store = open_store(config, lock).await?;
    let age = if config.storage.database.is_some() { SHARED_SWEEP_AGE } else { Duration::ZERO };
    sweep_uploads(&*store, &files, age).await?;
    sweep_artifacts(&*store, &artifacts, age).await?;
    Ok(Storage { store, files, artifacts })
}

fn open_artifacts(
    data_dir: &Path,
    service: &ServiceName,
    replica: ReplicaId,
    limits: ArtifactLimits,
    bucket: Option<Bucket>,
) -> Result<Artifacts, ServeError> {
    let folder = data_dir.join("artifacts").join(service.as_str());
    let remote = bucket.map(|bucket| RemoteArtifacts::new(Arc::new(bucket), service));
    let opened = Artifacts::open(&folder, replica, limits, remote);
    opened.map_err(|source| ServeError::Folder { what: "artifacts", path: folder, source })
}

fn open_files(root: Option<&Path>, uploads: &Path) -> Result<Files, ServeError> {
    let path = root.map_or_else(|| uploads.to_owned(), PathBuf::from);
    Files::new(root, uploads).map_err(|source| ServeError::Folder { what: "files", path, source })
}

async fn open_store(config: &Config, lock: Option<FolderLock>) -> Result<Arc<dyn Store>, ServeError> {
    let limits = StateLimits { value_bytes: config.storage.state_value_bytes, ..StateLimits::default() };
    let service = config.service.name.clone();
    match (&config.storage.database, lock) {
        (Some(DatabaseConfig { url, connections }), _) => {
            let usual = PostgresSettings::new(url.clone(), service);
            let settings = PostgresSettings { limits, connections: *connections, patience: DATABASE_PATIENCE, ..usual };
            Ok(Arc::new(PostgresStore::open(settings).await?))
        }
        (None, Some(lock)) => {
            Ok(Arc::new(SqliteStore::open_locked(lock, &config.storage.data_dir, service, limits, BUSY_TIMEOUT)?))
        }
        (None, None) => Ok(Arc::new(SqliteStore::open(&config.storage.data_dir, service, limits)?)),
    }
}

/// Removes uploads that no unfinished job needs: those of requests that were cut off by a crash.
async fn sweep_uploads(store: &dyn Store, files: &Files, age: Duration) -> Result<(), ServeError> {
    let mut wanted: Vec<FileAddress> = Vec::new();
    for state in [JobState::Queued, JobState::Running] {
        let mut filter = JobFilter { state: Some(state), limit: SWEEP_PAGE, ..JobFilter::default() };
        loop {
            let page = store.jobs(&filter).await?;
            wanted.extend(page.jobs.into_iter().flat_map(|job| job.files));
            match page.next {
                Some(next) => filter.before = Some(next),
                None => break,
            }
        }
    }
    match files.uploads().sweep(&wanted, age) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "uploads that nobody needs any more were removed"),
        Err(error) => tracing::warn!(%error, "uploads that nobody needs any more cannot be removed"),
    }
    Ok(())
}

/// Removes artifacts that no version needs: of training that was cut off after them, or of versions that cannot be loaded.
async fn sweep_artifacts(store: &dyn Store, artifacts: &Artifacts, age: Duration) -> Result<(), ServeError> {
    let needed = artifacts::needed(store).await?;
    match artifacts.sweep_local(Arc::new(needed), age).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "artifacts that no version needs were removed"),
        Err(error) => tracing::warn!(%error, "artifacts that no version needs cannot be removed"),
    }
    Ok(())
}

//! Where a server keeps everything: opened at the start, and cleared of what earlier lives left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dunnage_files::{Bucket, CacheSettings, FileProblem, Files, FilesSettings, S3Settings};
use dunnage_loops::Loops;
use dunnage_store::{BUSY_TIMEOUT, FolderLock, PostgresSettings, PostgresStore, SqliteStore, StateLimits, Store};
use dunnage_types::ReplicaId;

use crate::artifacts::{self, ArtifactLimits, Artifacts, RemoteArtifacts};
use crate::config::{Config, DatabaseConfig};
use crate::problem::chain;
use crate::serve::ServeError;
use crate::uploads;

/// In a folder that replicas share, only what has not changed for so long is swept: something younger may be in the making.
const SHARED_SWEEP_AGE: Duration = Duration::from_hours(24);
/// How long a file waits for room in the cache when everything in it is in use.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// How long the start waits for the bucket to answer.
const BUCKET_PATIENCE: Duration = Duration::from_secs(5);
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
pub(crate) async fn open(config: &Config, replica: ReplicaId, loops: &Loops) -> Result<Storage, ServeError> {
    let (name, data_dir) = (config.service.name.as_str(), &config.storage.data_dir);
    let lock = config.storage.database.is_none().then(|| FolderLock::take(data_dir)).transpose()?;
    // Before the database, which cannot be opened on a disk that an unfinished artifact has filled.
    let artifacts = open_artifacts(config, &data_dir.join("artifacts").join(name), replica)?;
    let files = Files::open(files_settings(config, data_dir.join("uploads").join(name)))?;
    let artifacts = match files.bucket() {
        Some(bucket) => {
            check(bucket).await?;
            artifacts.shared_in(RemoteArtifacts::new(Arc::new(bucket.clone()), &config.service.name))
        }
        None => artifacts,
    };
    let store = open_store(config, lock, loops).await?;
    let age = if config.storage.database.is_some() { SHARED_SWEEP_AGE } else { Duration::ZERO };
    uploads::sweep_local(&*store, &files, age).await?;
    sweep_artifacts(&*store, &artifacts, age).await?;
    Ok(Storage { store, files, artifacts })
}

/// Refuses a bucket that cannot be used and will not be by waiting. One that is only away for now is waited for by those who need it.
async fn check(bucket: &Bucket) -> Result<(), ServeError> {
    match tokio::time::timeout(BUCKET_PATIENCE, bucket.check()).await {
        Ok(Err(error)) if !error.problem.is_transient() || matches!(error.problem, FileProblem::Credentials(_)) => {
            Err(ServeError::Bucket(error))
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %chain(&error), "the bucket is not available now");
            Ok(())
        }
        Err(_) => {
            tracing::warn!("the bucket does not answer now");
            Ok(())
        }
        Ok(Ok(())) => Ok(()),
    }
}

fn open_artifacts(config: &Config, folder: &Path, replica: ReplicaId) -> Result<Artifacts, ServeError> {
    let limits = ArtifactLimits { bytes: config.objects.max_artifact_bytes, files: config.objects.max_artifact_files };
    let cannot_use = |source| ServeError::Folder { what: "artifacts", path: folder.to_owned(), source };
    Artifacts::open(folder, replica, limits).map_err(cannot_use)
}

fn files_settings(config: &Config, uploads: PathBuf) -> FilesSettings {
    let objects = &config.objects;
    FilesSettings {
        service: config.service.name.clone(),
        root: config.storage.files_root.clone(),
        uploads,
        s3: S3Settings {
            endpoint: objects.endpoint.clone(),
            region: objects.region.clone(),
            path_style: objects.path_style,
            anonymous: objects.anonymous,
            in_flight_bytes: objects.fetch_bytes,
            stall: objects.fetch_stall,
            ..S3Settings::default()
        },
        cache: CacheSettings {
            folder: objects.cache_dir.join(config.service.name.as_str()),
            capacity: objects.cache_bytes,
            max_file: objects.max_file_bytes.unwrap_or(objects.cache_bytes),
            revalidate: objects.revalidate,
            patience: ROOM_PATIENCE,
            fetch_timeout: objects.fetch_timeout,
        },
        allowed: objects.allow_files.clone(),
        bucket: objects.bucket.clone(),
    }
}

async fn open_store(config: &Config, lock: Option<FolderLock>, loops: &Loops) -> Result<Arc<dyn Store>, ServeError> {
    let limits = StateLimits { value_bytes: config.storage.state_value_bytes, ..StateLimits::default() };
    let service = config.service.name.clone();
    match (&config.storage.database, lock) {
        (Some(DatabaseConfig { url, connections }), _) => {
            let usual = PostgresSettings::new(url.clone(), service);
            let (connections, loops) = (*connections, loops.clone());
            let settings = PostgresSettings { limits, connections, patience: DATABASE_PATIENCE, loops, ..usual };
            Ok(Arc::new(PostgresStore::open(settings).await?))
        }
        (None, Some(lock)) => {
            Ok(Arc::new(SqliteStore::open_locked(lock, &config.storage.data_dir, service, limits, BUSY_TIMEOUT)?))
        }
        (None, None) => Ok(Arc::new(SqliteStore::open(&config.storage.data_dir, service, limits)?)),
    }
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

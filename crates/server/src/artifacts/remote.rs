//! Artifacts in a bucket, where all replicas of a service find them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunnage_files::FileError;
use dunnage_types::ServiceName;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::digest::Digest;
use super::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestFile};
use super::name::{self, ArtifactName};
use super::objects::Objects;
use super::survey::Tree;
use super::verify::{Damage, check, compare};
use super::{blocking, manifest::ManifestError};
use crate::problem::chain;
use crate::tree;

/// How many files of an artifact are under way at once. Each may itself be sent in parts.
const FILES_AT_ONCE: usize = 4;
/// How long an artifact is tried to be stored while storage is away. It may have taken a day to train, so that is worth some waiting.
pub(crate) const UPLOAD_PATIENCE: Duration = Duration::from_hours(1);
/// What is younger than this is not swept: its upload may be under way, or its version may be about to be committed. An upload is given
/// up long before.
const SWEEP_AGE: Duration = Duration::from_hours(24);
/// The first wait before a file is sent again; doubled with each further time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The artifacts of one service in a bucket: `artifacts/<service>/<name>/manifest.json`, and the files below `files/` beside it.
///
/// Its part of the bucket is its own: what no version of its database needs is removed.
#[derive(Clone)]
pub(crate) struct RemoteArtifacts {
    objects: Arc<dyn Objects>,
    folder: String,
}

impl RemoteArtifacts {
    pub(crate) fn new(objects: Arc<dyn Objects>, service: &ServiceName) -> Self {
        Self { objects, folder: format!("artifacts/{service}/") }
    }

    /// Stores a complete artifact, the manifest last, so that one with a manifest is whole. While storage is away each file is tried
    /// again, until [`UPLOAD_PATIENCE`] has passed since the beginning.
    ///
    /// # Errors
    ///
    /// The [`FileError`] of the first file that could not be stored. What has been stored is swept later.
    pub(crate) async fn upload(&self, name: &ArtifactName, folder: &Path, manifest: &Manifest) -> Result<(), FileError> {
        let until = Instant::now() + UPLOAD_PATIENCE;
        let puts: Vec<BoxFuture<'_, _>> = manifest.files().iter().map(|file| self.put(name, folder, file, until).boxed()).collect();
        stream::iter(puts).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
        let (key, bytes) = (self.manifest_key(name), Bytes::from(manifest.to_bytes()));
        persist(until, || self.objects.put_bytes(&key, bytes.clone(), "application/json")).await
    }

    async fn put(&self, name: &ArtifactName, folder: &Path, file: &ManifestFile, until: Instant) -> Result<(), FileError> {
        let (key, path) = (self.file_key(name, &file.path), folder.join(&file.path));
        persist(until, || self.objects.put(&key, &path)).await
    }

    /// Fetches an artifact into `folder`, where everything is on disk and fits the manifest when this returns well. Returns the manifest
    /// and the fingerprint of the folder's state. What an earlier download has left in `folder` and is right is not fetched again.
    ///
    /// # Errors
    ///
    /// [`Unfetched`].
    pub(crate) async fn download(&self, name: &ArtifactName, folder: &Path) -> Result<(Bytes, Digest), Unfetched> {
        let bytes = self.objects.get_bytes(&self.manifest_key(name), MAX_MANIFEST_BYTES).await?;
        let manifest = Arc::new(Manifest::read(&bytes, name.manifest())?);
        let (at, listed) = (folder.to_owned(), Arc::clone(&manifest));
        blocking(move || make_room(&at, &listed)).await??;
        let gets: Vec<BoxFuture<'_, _>> = manifest.files().iter().map(|file| self.fetch(name, folder, file).boxed()).collect();
        stream::iter(gets).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
        let (at, listed) = (folder.to_owned(), Arc::clone(&manifest));
        let fingerprint = blocking(move || settle(&at, &listed)).await??;
        Ok((bytes, fingerprint))
    }

    async fn fetch(&self, name: &ArtifactName, folder: &Path, file: &ManifestFile) -> Result<(), Unfetched> {
        if check_and_sync(folder, file).await?.is_ok() {
            return Ok(());
        }
        let path = folder.join(&file.path);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.objects.get(&self.file_key(name, &file.path), &path, file.size).await?;
        Ok(check_and_sync(folder, file).await??)
    }

    /// Removes the artifacts that no version needs and that nothing has been added to for a day, and uploads that were never ended; how many
    /// artifacts.
    pub(crate) async fn sweep(&self, needed: &BTreeSet<String>) -> Result<usize, FileError> {
        let aborted = self.objects.abort_stale_uploads(SWEEP_AGE).await?;
        if aborted > 0 {
            tracing::info!(aborted, "uploads to the bucket that were never ended were given up");
        }
        let mut removed = 0;
        for name in self.objects.folders(&self.folder).await? {
            // Only what has a name of ours is touched.
            if name::is_ours(&name) && !needed.contains(&name) && self.remove_if_old(&name).await? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn remove_if_old(&self, name: &str) -> Result<bool, FileError> {
        let objects = self.objects.list(&format!("{}{name}/", self.folder)).await?;
        let is_old = objects.iter().all(|object| object.modified.elapsed().is_ok_and(|age| age >= SWEEP_AGE));
        if is_old {
            let (manifests, files): (Vec<_>, Vec<_>) = objects
                .into_iter()
                .map(|object| object.key)
                .partition(|key| key.ends_with("/manifest.json") && !key.contains("/files/"));
            // First of all, so that no replica begins to fetch what is going.
            self.objects.remove(manifests).await?;
            self.objects.remove(files).await?;
        }
        Ok(is_old)
    }

    fn manifest_key(&self, name: &ArtifactName) -> String {
        format!("{}{name}/manifest.json", self.folder)
    }

    fn file_key(&self, name: &ArtifactName, path: &str) -> String {
        format!("{}{name}/files/{path}", self.folder)
    }
}

/// Tries again and again to store something, as long as trying later may help.
async fn persist<F>(until: Instant, mut put: impl FnMut() -> F) -> Result<(), FileError>
where
    F: Future<Output = Result<(), FileError>>,
{
    let mut wait = FIRST_WAIT;
    loop {
        match put().await {
            Err(error) if error.problem.is_transient() && Instant::now() + wait < until => {
                tracing::warn!(error = %chain(&error), "part of an artifact could not be stored; trying again");
            }
            other => return other,
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..=1.0))).await;
        wait = LONGEST_WAIT.min(wait * 2);
    }
}

/// Makes the folders for a download. If what is there is not a part of the same artifact, it goes.
fn make_room(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let most = manifest.files().len() + manifest.folders().len();
    let is_part = Tree::open(folder).is_ok_and(|tree| tree.survey(most).is_ok_and(|found| found.split(manifest).1.len() == 0));
    if !is_part {
        tree::remove(folder)?;
        std::fs::create_dir(folder)?;
    }
    manifest.folders().iter().try_for_each(|path| std::fs::create_dir_all(folder.join(path)))
}

/// Has a download on disk, and makes sure that all of it and nothing else is in its folder.
fn settle(folder: &Path, manifest: &Manifest) -> Result<Digest, Damage> {
    let tree = Tree::open(folder).map_err(Damage::Unreadable)?;
    let survey = tree.survey(manifest.files().len() + manifest.folders().len())?;
    compare(&survey, manifest)?;
    tree.sync_folders(&survey)?;
    Ok(survey.fingerprint())
}

async fn check_and_sync(folder: &Path, file: &ManifestFile) -> io::Result<Result<(), Damage>> {
    let (folder, file): (PathBuf, ManifestFile) = (folder.to_owned(), file.clone());
    blocking(move || {
        let tree = Tree::open(&folder).map_err(Damage::Unreadable)?;
        check(&tree, &file)?;
        tree.file(&file.path)?.sync_all().map_err(Damage::Unreadable)
    })
    .await
}

/// Why an artifact could not be fetched from the bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfetched {
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] FileError),
    /// What came is not what was committed.
    #[error("what the bucket holds is damaged")]
    Damaged(#[from] Damage),
    /// The disk failed.
    #[error("it cannot be written")]
    Disk(#[from] io::Error),
}

impl From<ManifestError> for Unfetched {
    fn from(error: ManifestError) -> Self {
        Self::Damaged(error.into())
    }
}

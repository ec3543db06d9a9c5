//! Artifacts: what training writes and workers read.
//!
//! Begin reading at [`Artifacts`]. [`local`] is where they lie on this machine, [`remote`] where all replicas find them, [`manifest`] what
//! tells one from a damaged one.

mod digest;
pub(crate) mod fuzzing;
mod local;
mod manifest;
mod name;
mod objects;
mod remote;
mod seal;
mod survey;
#[cfg(test)]
mod tests;
mod upkeep;
mod verify;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dunnage_files::FileError;
use dunnage_protocol::Artifact;
use dunnage_store::Lease;
use dunnage_types::{ModelVersion, ReplicaId};

use crate::problem::chain;
use digest::Digest;
use local::{LocalArtifacts, Unfit};
pub(crate) use name::ArtifactName;
pub(crate) use remote::RemoteArtifacts;
pub(crate) use seal::{ArtifactLimits, SealError};
pub(crate) use upkeep::{needed, sweep_now_and_then};

/// Where artifacts are kept: on this machine, and in a bucket if there is one.
///
/// A version names its artifact by the digest of a manifest, which holds the digest of every file. Nothing is given to a worker that has not
/// been checked against it, so that what is loaded is what the winning attempt committed, byte for byte.
pub(crate) struct Artifacts {
    local: Arc<LocalArtifacts>,
    remote: Option<RemoteArtifacts>,
    limits: ArtifactLimits,
    /// The state in which each artifact was last found good.
    verified: Mutex<HashMap<ArtifactName, Digest>>,
    /// Held, for each artifact, by whoever checks or fetches it; the others then find it done.
    turns: Mutex<HashMap<ArtifactName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Artifacts {
    /// Opens the folder for the life `replica`, and removes what attempts of lives that have ended left unfinished.
    pub(crate) fn open(folder: &Path, replica: ReplicaId, limits: ArtifactLimits) -> io::Result<Self> {
        let local = Arc::new(LocalArtifacts::open(folder, replica)?);
        Ok(Self { local, remote: None, limits, verified: Mutex::default(), turns: Mutex::default() })
    }

    /// Keeps them in a bucket, too, where other replicas find them, and fetches from there what is not here.
    pub(crate) fn shared_in(self, remote: RemoteArtifacts) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// The folder of an attempt, made if it is not there.
    pub(crate) fn begin(&self, lease: Lease) -> io::Result<PathBuf> {
        self.local.begin(lease)
    }

    /// Makes what an attempt has written complete on this machine, under the name that is returned. If that fails it is removed.
    pub(crate) async fn complete(&self, lease: Lease) -> Result<ArtifactName, SealError> {
        let (local, limits) = (Arc::clone(&self.local), self.limits);
        let completed = blocking(move || {
            local.complete(lease, limits).inspect_err(|_| {
                if let Err(error) = local.discard(lease) {
                    tracing::warn!(%error, job = %lease.job, "an artifact that cannot be kept cannot be removed; the next start tries again");
                }
            })
        });
        let (name, fingerprint) = completed.await.map_err(SealError::Disk)??;
        self.remember(&name, fingerprint);
        Ok(name)
    }

    /// Stores a complete artifact in the bucket; nothing happens where there is none. While storage is away that is tried for an hour.
    ///
    /// # Errors
    ///
    /// [`UploadError`]. What has been stored is swept later.
    pub(crate) async fn upload(&self, name: &ArtifactName) -> Result<(), UploadError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let (local, wanted) = (Arc::clone(&self.local), name.clone());
        let manifest = blocking(move || local.manifest(&wanted)).await.map_err(UploadError::Disk)?;
        let manifest = manifest.map_err(|damage| UploadError::Disk(io::Error::other(damage)))?;
        let manifest = manifest.ok_or_else(|| UploadError::Disk(io::ErrorKind::NotFound.into()))?;
        Ok(remote.upload(name, &self.local.path(name), &manifest).await?)
    }

    /// How long [`Artifacts::upload`] may take while storage is away.
    pub(crate) fn upload_patience(&self) -> Duration {
        if self.remote.is_some() { remote::UPLOAD_PATIENCE } else { Duration::ZERO }
    }

    /// A version's artifact, as workers are told of it: on this machine, and known to be what was committed. It is fetched from the bucket if
    /// it is not here or is damaged. Cheap when it has been checked in this life and not been touched since.
    ///
    /// May be dropped at any time; whoever comes next goes on with what has been fetched.
    ///
    /// # Errors
    ///
    /// [`Unobtainable`]; a worker must then not be told of it.
    pub(crate) async fn obtain(&self, version: &ModelVersion) -> Result<Artifact, Unobtainable> {
        let unobtainable = |reason| Unobtainable { version: version.version.get(), reason };
        let name: ArtifactName =
            version.artifact.parse().map_err(|error: name::UnknownName| unobtainable(format!("is unknown: {error}")))?;
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        match self.check(&name).await {
            Ok(()) => {}
            Err(unfit) => self.replace(&name, &unfit).await.map_err(unobtainable)?,
        }
        Ok(Artifact { version: version.version.get(), path: self.local.path(&name) })
    }

    async fn check(&self, name: &ArtifactName) -> Result<(), Unfit> {
        let (local, wanted, known) = (Arc::clone(&self.local), name.clone(), self.known(name));
        let checked = blocking(move || local.check(&wanted, known)).await;
        let fingerprint = checked.map_err(|error| Unfit::Damaged(verify::Damage::Unreadable(error)))??;
        self.remember(name, fingerprint);
        Ok(())
    }

    /// Fetches an artifact that cannot be used as it lies here. The error says why it cannot be had at all.
    async fn replace(&self, name: &ArtifactName, unfit: &Unfit) -> Result<(), String> {
        let here = match unfit {
            Unfit::Absent => "is not in this replica's data folder".to_owned(),
            Unfit::Damaged(damage) => format!("is damaged: {}", chain(damage)),
        };
        if matches!(unfit, Unfit::Damaged(_)) {
            tracing::error!(artifact = %name, "the artifact {here}; no worker is given it");
        }
        let Some(remote) = &self.remote else {
            let advice = match unfit {
                Unfit::Absent => "let all replicas share one (`--data-dir`), or a bucket (`--bucket`)",
                Unfit::Damaged(_) => "restore it from a copy, activate another version, or train again",
            };
            return Err(format!("{here}; {advice}"));
        };
        match self.fetch(remote, name).await {
            Ok(()) => {
                tracing::info!(artifact = %name, "an artifact was fetched from the bucket");
                Ok(())
            }
            Err(error) => Err(format!("{here}, and cannot be fetched from the bucket: {}", chain(&error))),
        }
    }

    async fn fetch(&self, remote: &RemoteArtifacts, name: &ArtifactName) -> Result<(), remote::Unfetched> {
        let folder = self.local.begin_download(name)?;
        let (manifest, fingerprint) = remote.download(name, &folder).await?;
        let (local, placed) = (Arc::clone(&self.local), name.clone());
        blocking(move || local.place(&placed, &folder, &manifest)).await??;
        self.remember(name, fingerprint);
        Ok(())
    }

    /// Removes what an attempt has written and not completed; nothing happens if there is nothing.
    pub(crate) fn discard(&self, lease: Lease) -> io::Result<()> {
        self.local.discard(lease)
    }

    /// Removes a complete artifact from this machine that no version will ever need, because it could not be published.
    pub(crate) async fn abandon(&self, name: &ArtifactName) -> io::Result<()> {
        let (local, name) = (Arc::clone(&self.local), name.clone());
        blocking(move || local.abandon(&name)).await?
    }

    /// Removes every artifact from this machine that no version needs and that is older than `age`; how many.
    pub(crate) async fn sweep_local(&self, needed: Arc<BTreeSet<String>>, age: Duration) -> io::Result<usize> {
        let local = Arc::clone(&self.local);
        blocking(move || local.sweep(&needed, age)).await?
    }

    /// Removes old artifacts from the bucket that no version needs; how many.
    pub(crate) async fn sweep_remote(&self, needed: &BTreeSet<String>) -> Result<usize, FileError> {
        match &self.remote {
            Some(remote) => remote.sweep(needed).await,
            None => Ok(0),
        }
    }

    fn known(&self, name: &ArtifactName) -> Option<Digest> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    fn remember(&self, name: &ArtifactName, fingerprint: Digest) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), fingerprint);
    }

    fn turn(&self, name: &ArtifactName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.clone()).or_default())
    }
}

/// Does what takes long or waits for the disk where it holds up nothing else. Goes on to its end even if nobody waits any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The artifact of a version cannot be had, so that the version cannot serve here.
#[derive(Debug, thiserror::Error)]
#[error("the artifact of version {version} {reason}")]
pub(crate) struct Unobtainable {
    version: u32,
    reason: String,
}

/// Why an artifact was not stored in the bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// Storage failed, and went on failing where that might have passed.
    #[error("the artifact cannot be stored in the bucket")]
    Storage(#[from] FileError),
    /// What has just been written cannot be read again.
    #[error("the artifact cannot be read")]
    Disk(#[source] io::Error),
}

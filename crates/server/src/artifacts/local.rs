//! The folders that training writes and workers read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dunnage_store::Lease;
use dunnage_types::ReplicaId;
use rustix::fs::{Mode, OFlags};

use super::digest::Digest;
use super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use super::name::{self, ArtifactName};
use super::seal::{ArtifactLimits, SealError, seal};
use super::verify::{Damage, verify};
use crate::life::{self, LifeFolder};
use crate::tree;

/// What stands behind an artifact's name in the name of its manifest.
const MANIFEST_EXTENSION: &str = ".json";

/// Where artifacts lie on this machine.
///
/// A folder below `pending` belongs to an attempt or a download that is under way, and lies in the folder of the life that makes it. One
/// beside `pending` is complete and never changes; its manifest lies beside it. Replicas may share all of it.
#[derive(Debug)]
pub(crate) struct LocalArtifacts {
    complete: PathBuf,
    pending: LifeFolder,
}

impl LocalArtifacts {
    /// Opens the folder for the life `replica`, and removes what attempts of lives that have ended left unfinished.
    pub(crate) fn open(folder: &Path, replica: ReplicaId) -> io::Result<Self> {
        let pending = folder.join("pending");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pending)?;
        life::sweep(&pending)?;
        Ok(Self { complete: folder.canonicalize()?, pending: LifeFolder::make(&pending.canonicalize()?, replica)? })
    }

    /// The folder of an attempt, made if it is not there.
    pub(crate) fn begin(&self, lease: Lease) -> io::Result<PathBuf> {
        self.pending_folder(&name::of_attempt(lease))
    }

    /// The folder of a download, made if it is not there. An earlier one that failed may have left files in it.
    pub(crate) fn begin_download(&self, name: &ArtifactName) -> io::Result<PathBuf> {
        self.pending_folder(&format!("download-{name}"))
    }

    /// Makes an attempt's folder complete: everything in it is on disk, and so is its manifest, when it gets its final name. Returns that,
    /// and the fingerprint of the state it was in.
    pub(crate) fn complete(&self, lease: Lease, limits: ArtifactLimits) -> Result<(ArtifactName, Digest), SealError> {
        let pending = self.pending.path().join(name::of_attempt(lease));
        let sealed = seal(&pending, limits)?;
        let bytes = sealed.manifest.to_bytes();
        let name = ArtifactName::new(lease, Digest::of(&bytes));
        self.place(&name, &pending, &bytes).map_err(SealError::Disk)?;
        Ok((name, sealed.fingerprint))
    }

    /// Puts a folder that is on disk and fits its manifest where workers find it, in place of what is there.
    ///
    /// The manifest comes first: a folder without one can then only be one that somebody has meddled with.
    pub(crate) fn place(&self, name: &ArtifactName, folder: &Path, manifest: &[u8]) -> io::Result<()> {
        let written = self.pending.path().join(format!("{name}{MANIFEST_EXTENSION}"));
        let mut file = File::create(&written)?;
        file.write_all(manifest)?;
        file.sync_all()?;
        fs::rename(&written, self.manifest_path(name))?;
        let replaced = self.pending.path().join(format!("replaced-{name}"));
        tree::remove(&replaced)?;
        match fs::rename(self.path(name), &replaced) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::rename(folder, self.path(name))?,
        }
        File::open(&self.complete)?.sync_all()?;
        tree::remove(&replaced)
    }

    /// Checks that an artifact is the one its name says. Cheap if it is in the state of `known`, which was found good before; else all of it is
    /// read. Returns the fingerprint of the state it is in. What is not part of it is removed.
    pub(crate) fn check(&self, name: &ArtifactName, known: Option<Digest>) -> Result<Digest, Unfit> {
        let folder = self.path(name);
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unfit::Absent),
            _ => {}
        }
        let Some(manifest) = self.manifest(name)? else { return Err(Unfit::Absent) };
        Ok(verify(&folder, &manifest, known)?)
    }

    /// An artifact's manifest, known to be the right one; `None` if there is none.
    pub(crate) fn manifest(&self, name: &ArtifactName) -> Result<Option<Manifest>, Damage> {
        let bytes = match read_plain(&self.manifest_path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Damage::Unreadable)?,
        };
        Ok(Some(Manifest::read(&bytes, name.manifest())?))
    }

    /// Removes what an attempt has written and not completed; nothing happens if there is nothing.
    pub(crate) fn discard(&self, lease: Lease) -> io::Result<()> {
        tree::remove(&self.pending.path().join(name::of_attempt(lease)))
    }

    /// Removes a complete artifact that no version will ever need, because it could not be published.
    pub(crate) fn abandon(&self, name: &ArtifactName) -> io::Result<()> {
        self.remove(&name.to_string())
    }

    /// Removes every complete artifact that no version needs and that is older than `age`, and downloads that were given up as long ago; how
    /// many. One that has just been completed may belong to a version which another replica has yet to commit.
    pub(crate) fn sweep(&self, needed: &BTreeSet<String>, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for name in self.complete_names()?.difference(needed) {
            if self.newest_change(name)?.is_some_and(|change| is_older(change, age)) {
                self.remove(name)?;
                removed += 1;
            }
        }
        for entry in fs::read_dir(self.pending.path())? {
            let entry = entry?;
            let is_download = entry.file_name().to_str().is_some_and(|name| name.starts_with("download-"));
            if is_download && changed(&entry.path())?.is_some_and(|change| is_older(change, age)) {
                tree::remove(&entry.path())?;
            }
        }
        Ok(removed)
    }

    /// Where workers find a complete artifact.
    pub(crate) fn path(&self, name: &ArtifactName) -> PathBuf {
        self.complete.join(name.to_string())
    }

    fn manifest_path(&self, name: &ArtifactName) -> PathBuf {
        self.complete.join(format!("{name}{MANIFEST_EXTENSION}"))
    }

    fn pending_folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.pending.path().join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }

    /// The names of all that is complete, or was in part when a life ended. Only what has a name of ours is touched.
    fn complete_names(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.complete)? {
            let file_name = entry?.file_name();
            let name = file_name.to_str().map(|name| name.strip_suffix(MANIFEST_EXTENSION).unwrap_or(name));
            names.extend(name.filter(|name| name::is_ours(name)).map(str::to_owned));
        }
        Ok(names)
    }

    fn newest_change(&self, name: &str) -> io::Result<Option<SystemTime>> {
        let manifest = changed(&self.complete.join(format!("{name}{MANIFEST_EXTENSION}")))?;
        Ok(changed(&self.complete.join(name))?.max(manifest))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.complete.join(format!("{name}{MANIFEST_EXTENSION}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        tree::remove(&self.complete.join(name))
    }
}

/// When something was last changed or renamed, if it is still there. Training may have begun long before it ended.
fn changed(path: &Path) -> io::Result<Option<SystemTime>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => {
            let renamed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
            Ok(Some(metadata.modified()?.max(renamed)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_older(change: SystemTime, age: Duration) -> bool {
    change.elapsed().is_ok_and(|elapsed| elapsed >= age)
}

/// Reads a plain file of moderate size, and nothing else.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_MANIFEST_BYTES {
        return Err(io::Error::other("its manifest is no plain file of moderate size"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why an artifact cannot be used as it lies here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It is not here.
    #[error("it is not in this replica's data folder")]
    Absent,
    /// It is not what was committed.
    #[error("it is damaged")]
    Damaged(#[from] Damage),
}

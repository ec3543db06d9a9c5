//! Folders that belong to one life of a server, among those of other replicas that share the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use dunnage_types::ReplicaId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::tree;

/// What stands behind a life's name in the name of its lock.
const LOCK_EXTENSION: &str = "lock";

/// A folder that is this life's alone. It is left behind when the life ends, and removed by a later one.
///
/// Beside it lies a file with a lock on it, which the system lets go of when the process ends, however it ends: so every replica can
/// tell the folders of the living from those of the dead.
#[derive(Debug)]
pub(crate) struct LifeFolder {
    path: PathBuf,
    _lock: File,
}

impl LifeFolder {
    /// Makes the folder of the life `replica` in `parent`.
    pub(crate) fn make(parent: &Path, replica: ReplicaId) -> io::Result<Self> {
        let path = parent.join(replica.to_string());
        let lock = take_lock(&path.with_extension(LOCK_EXTENSION))?;
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes everything in `parent` that belongs to no living server. What cannot be removed is reported and left.
pub(crate) fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != LOCK_EXTENSION)
            && let Err(error) = remove_if_dead(&path)
        {
            tracing::warn!(%error, folder = %path.display(), "what an earlier life left cannot be removed");
        }
    }
    Ok(())
}

fn remove_if_dead(folder: &Path) -> io::Result<()> {
    let lock_path = folder.with_extension(LOCK_EXTENSION);
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    tree::remove(folder)?;
    fs::remove_file(&lock_path)
}

/// Makes a file and locks it. Another replica that sweeps may lock and remove it in between, and then it is made again.
fn take_lock(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        if fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| there.ino() == ours.ino())) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_the_folders_of_the_dead_alone() {
        let parent = tempfile::tempdir().unwrap();
        let living = LifeFolder::make(parent.path(), ReplicaId::random()).unwrap();
        let dying = LifeFolder::make(parent.path(), ReplicaId::random()).unwrap();
        let dead = dying.path().to_owned();
        fs::write(dead.join("weights"), "1").unwrap();
        let unlocked = parent.path().join("of-an-earlier-version");
        fs::create_dir(&unlocked).unwrap();

        sweep(parent.path()).unwrap();
        assert!(living.path().exists() && dead.exists() && !unlocked.exists());
        drop(dying);
        sweep(parent.path()).unwrap();
        assert!(living.path().exists() && !dead.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "the living one and its lock");
    }
}

//! A folder for each worker's temporary files, which is removed with the worker.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::shared_memory;

/// How the folders of servers are called.
const PREFIX: &str = "dunnage-";
/// Within a server's folder: locked for as long as the server lives, whatever ends it.
const LOCK: &str = "lock";
/// Within a server's folder: what shared memory its workers have made.
const NOTES: &str = "shared-memory";

/// The folder of one server below the system's folder for temporary files. It is removed when it is dropped; one that a killed server
/// has left is removed by the next one that starts.
///
/// Sockets may lie in it, whose paths must be short, so that it is not in the data folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    _lock: File,
}

/// The folder of one worker. Dropping it removes it with everything in it.
#[derive(Debug)]
pub(crate) struct WorkerScratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn make() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        Self::make_in(&parent)
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let private = fs::Permissions::from_mode(private());
        let folder = tempfile::Builder::new().prefix(PREFIX).rand_bytes(8).permissions(private).tempdir_in(parent)?;
        // Under a name of its own until it is locked, so that nobody who sweeps finds it unlocked.
        let unlocked = folder.path().join("lock.new");
        let lock = File::create_new(&unlocked)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&unlocked, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// A file for notes on shared memory, by which the next server finds what this one leaves if it is killed.
    pub(crate) fn notes(&self) -> io::Result<File> {
        File::create_new(self.folder.path().join(NOTES))
    }

    pub(crate) fn worker(&self, number: u64) -> io::Result<WorkerScratch> {
        let path = self.folder.path().join(number.to_string());
        fs::DirBuilder::new().mode(private()).create(&path)?;
        Ok(WorkerScratch { path })
    }
}

impl WorkerScratch {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkerScratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, folder = %self.path.display(), "the temporary files of a worker cannot be removed");
        }
    }
}

/// The mode of folders that nobody else may enter.
fn private() -> u32 {
    0o700
}

/// Removes the folders of servers that live no more. Only those that are ours are touched.
fn sweep(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_named_so = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        // Of a link, these are those of the link itself.
        let is_ours = is_named_so && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !is_ours || !is_left(&entry.path()) {
            continue;
        }
        shared_memory::sweep(&entry.path().join(NOTES));
        if let Err(error) = remove(&entry.path()) {
            tracing::warn!(%error, folder = %entry.path().display(), "the temporary files of an earlier server cannot be removed");
        }
    }
}

/// Removes a folder with everything in it. Another server that starts may be at the same.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether a server's folder has a lock that nobody holds. One without is none, or is being made.
fn is_left(folder: &Path) -> bool {
    let lock = File::open(folder.join(LOCK));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_workers_folder_goes_with_it_and_a_servers_with_the_server() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::make_in(parent.path()).unwrap();
        let worker = scratch.worker(1).unwrap();
        for folder in [scratch.folder.path(), worker.path()] {
            assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
        }
        fs::write(worker.path().join("left"), "").unwrap();
        let path = worker.path().to_owned();
        drop(worker);
        assert!(!path.exists());
        drop(scratch);
        assert_eq!(names(parent.path()), 0);
    }

    #[test]
    fn what_a_killed_server_has_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = Scratch::make_in(parent.path()).unwrap();
        let Scratch { folder, _lock } = Scratch::make_in(parent.path()).unwrap();
        let (left, locked) = (folder.keep(), _lock);
        for other in ["dunnage-notes", "others"] {
            fs::create_dir(parent.path().join(other)).unwrap();
        }
        sweep(parent.path());
        assert!(left.exists(), "it lives as long as its lock is held");
        drop(locked);
        sweep(parent.path());
        assert!(!left.exists() && living.folder.path().exists());
        assert_eq!(names(parent.path()), 3);
    }
}

//! The folders that training writes and workers read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dunnage_protocol::Artifact;
use dunnage_store::Lease;
use dunnage_types::{JobId, ModelVersion, ReplicaId};

use crate::life::{self, LifeFolder};
use crate::tree;

/// Where artifacts are kept. A folder below `pending` belongs to an attempt that runs, and lies in the folder of the life that runs it;
/// one beside `pending` is complete and never changes. Replicas may share all of it.
#[derive(Debug)]
pub(crate) struct Artifacts {
    complete: PathBuf,
    pending: LifeFolder,
}

impl Artifacts {
    /// Opens the folder for the life `replica`, and removes what attempts of lives that have ended left unfinished.
    pub(crate) fn open(folder: &Path, replica: ReplicaId) -> io::Result<Self> {
        let pending = folder.join("pending");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pending)?;
        life::sweep(&pending)?;
        Ok(Self { complete: folder.canonicalize()?, pending: LifeFolder::make(&pending.canonicalize()?, replica)? })
    }

    /// The folder of an attempt, made if it is not there.
    pub(crate) fn begin(&self, lease: Lease) -> io::Result<PathBuf> {
        let folder = self.pending.path().join(name(lease));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }

    /// Makes an attempt's folder complete: everything in it is on disk when it gets its final name, which is returned.
    pub(crate) fn complete(&self, lease: Lease) -> io::Result<String> {
        let name = name(lease);
        let pending = self.pending.path().join(&name);
        tree::sync(&pending)?;
        fs::rename(&pending, self.complete.join(&name))?;
        File::open(&self.complete)?.sync_all()?;
        Ok(name)
    }

    /// Removes what an attempt has written and not completed; nothing happens if there is nothing.
    pub(crate) fn discard(&self, lease: Lease) -> io::Result<()> {
        tree::remove(&self.pending.path().join(name(lease)))
    }

    /// Removes a complete artifact that no version will ever need, because it could not be published.
    pub(crate) fn abandon(&self, artifact: &str) -> io::Result<()> {
        tree::remove(&self.complete.join(artifact))
    }

    /// Removes every complete artifact that no version needs and that is older than `age`; how many. One that has just been completed may
    /// belong to a version which another replica has yet to commit.
    pub(crate) fn sweep(&self, needed: &[String], age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.complete)? {
            let entry = entry?;
            let name = entry.file_name();
            // Only what has a name of ours is touched.
            let ours = name.to_str().filter(|name| is_name(name));
            if let Some(name) = ours.filter(|name| !needed.iter().any(|needed| needed == name))
                && is_older(&entry.path(), age)?
            {
                self.abandon(name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The artifact of a version, as workers are told of it.
    pub(crate) fn of(&self, version: &ModelVersion) -> Artifact {
        Artifact { version: version.version.get(), path: self.complete.join(&version.artifact) }
    }

    /// The same, if it is here.
    ///
    /// # Errors
    ///
    /// A sentence if it is not: it was written by a replica whose data folder is another.
    pub(crate) fn find(&self, version: &ModelVersion) -> Result<Artifact, String> {
        let artifact = self.of(version);
        if artifact.path.is_dir() {
            return Ok(artifact);
        }
        let number = version.version;
        Err(format!(
            "the artifact of version {number} is not in this replica's data folder; let all replicas share one (`--data-dir`)"
        ))
    }
}

/// Whether a folder was last changed longer ago than `age`. One that disappears meanwhile is somebody else's to remove.
fn is_older(folder: &Path, age: Duration) -> io::Result<bool> {
    match fs::metadata(folder).and_then(|metadata| metadata.modified()) {
        Ok(changed) => Ok(changed.elapsed().is_ok_and(|elapsed| elapsed >= age)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn name(lease: Lease) -> String {
    format!("{}-{}", lease.job, lease.number)
}

fn is_name(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(job, number)| job.parse::<JobId>().is_ok() && number.parse::<i64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease { job: JobId::random(), number: 1 }
    }

    #[test]
    fn an_artifact_is_complete_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path(), ReplicaId::random()).unwrap();
        let (finished, unfinished) = (lease(), lease());
        fs::write(artifacts.begin(finished).unwrap().join("weights"), "1").unwrap();
        fs::write(artifacts.begin(unfinished).unwrap().join("weights"), "2").unwrap();
        let name = artifacts.complete(finished).unwrap();

        let beside = Artifacts::open(folder.path(), ReplicaId::random()).unwrap();
        assert!(artifacts.pending.path().join(super::name(unfinished)).exists(), "another replica leaves it alone");
        drop((artifacts, beside));

        let reopened = Artifacts::open(folder.path(), ReplicaId::random()).unwrap();
        assert_eq!(fs::read_to_string(reopened.complete.join(&name).join("weights")).unwrap(), "1");
        assert_eq!(fs::read_dir(folder.path().join("pending")).unwrap().count(), 2, "this life's folder and its lock");
        reopened.discard(finished).unwrap();
        assert_eq!(reopened.sweep(std::slice::from_ref(&name), Duration::ZERO).unwrap(), 0);
        assert!(reopened.complete.join(&name).exists(), "only a sweep removes what is complete");
        fs::create_dir(reopened.complete.join("not ours")).unwrap();
        assert_eq!(reopened.sweep(&[], Duration::from_hours(1)).unwrap(), 0, "it is too young");
        assert_eq!(reopened.sweep(&[], Duration::ZERO).unwrap(), 1);
        assert!(reopened.complete.join("not ours").exists());
        assert!(!reopened.complete.join(name).exists());
        reopened.begin(unfinished).unwrap();
    }
}

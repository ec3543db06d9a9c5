//! The folders that training writes and workers read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dunnage_protocol::Artifact;
use dunnage_store::Lease;
use dunnage_types::{JobId, ModelVersion, Timestamp};

use crate::tree;

/// Where artifacts are kept. A folder below `pending` belongs to an attempt that runs; one beside it is complete and never
/// changes.
#[derive(Debug)]
pub(crate) struct Artifacts {
    complete: PathBuf,
    pending: PathBuf,
}

impl Artifacts {
    /// Opens the folder and removes what attempts of an earlier life left unfinished. What cannot be removed is put aside.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let complete = folder.canonicalize()?;
        let pending = complete.join("pending");
        if let Err(error) = tree::remove(&pending) {
            let aside = complete.join(format!("unremovable-{}", Timestamp::now().0));
            tracing::warn!(%error, aside = %aside.display(), "unfinished artifacts cannot be removed; putting them aside");
            fs::rename(&pending, aside)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&pending)?;
        Ok(Self { complete, pending })
    }

    /// The folder of an attempt, made if it is not there.
    pub(crate) fn begin(&self, lease: Lease) -> io::Result<PathBuf> {
        let folder = self.pending.join(name(lease));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }

    /// Makes an attempt's folder complete: everything in it is on disk when it gets its final name, which is returned.
    pub(crate) fn complete(&self, lease: Lease) -> io::Result<String> {
        let name = name(lease);
        let pending = self.pending.join(&name);
        tree::sync(&pending)?;
        fs::rename(&pending, self.complete.join(&name))?;
        File::open(&self.complete)?.sync_all()?;
        Ok(name)
    }

    /// Removes what an attempt has written and not completed; nothing happens if there is nothing.
    pub(crate) fn discard(&self, lease: Lease) -> io::Result<()> {
        tree::remove(&self.pending.join(name(lease)))
    }

    /// Removes a complete artifact that no version will ever need, because it could not be published.
    pub(crate) fn abandon(&self, artifact: &str) -> io::Result<()> {
        tree::remove(&self.complete.join(artifact))
    }

    /// Removes every complete artifact that no version needs; how many. Only at a start: while attempts run, one may be complete
    /// and its version not yet committed.
    pub(crate) fn sweep(&self, needed: &[String]) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.complete)? {
            let name = entry?.file_name();
            // Only what has a name of ours is touched.
            let ours = name.to_str().filter(|name| is_name(name));
            if let Some(name) = ours.filter(|name| !needed.iter().any(|needed| needed == name)) {
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
        let artifacts = Artifacts::open(folder.path()).unwrap();
        let (finished, unfinished) = (lease(), lease());
        fs::write(artifacts.begin(finished).unwrap().join("weights"), "1").unwrap();
        fs::write(artifacts.begin(unfinished).unwrap().join("weights"), "2").unwrap();
        let name = artifacts.complete(finished).unwrap();

        let reopened = Artifacts::open(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(reopened.complete.join(&name).join("weights")).unwrap(), "1");
        assert_eq!(fs::read_dir(&reopened.pending).unwrap().count(), 0);
        reopened.discard(finished).unwrap();
        assert_eq!(reopened.sweep(std::slice::from_ref(&name)).unwrap(), 0);
        assert!(reopened.complete.join(&name).exists(), "only a sweep removes what is complete");
        fs::create_dir(reopened.complete.join("not ours")).unwrap();
        assert_eq!(reopened.sweep(&[]).unwrap(), 1);
        assert!(reopened.complete.join("not ours").exists());
        assert!(!reopened.complete.join(name).exists());
        reopened.begin(unfinished).unwrap();
    }
}

//! The folders that training writes and workers read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dunnage_protocol::Artifact;
use dunnage_store::Lease;
use dunnage_types::ModelVersion;

/// Where artifacts are kept. A folder below `pending` belongs to an attempt that runs; one beside it is complete and never
/// changes.
#[derive(Debug)]
pub(crate) struct Artifacts {
    complete: PathBuf,
    pending: PathBuf,
}

impl Artifacts {
    /// Opens the folder and removes what attempts of an earlier life left unfinished.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let pending = folder.join("pending");
        if pending.exists() {
            fs::remove_dir_all(&pending)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pending)?;
        let complete = folder.canonicalize()?;
        Ok(Self { pending: complete.join("pending"), complete })
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
        sync_tree(&pending)?;
        fs::rename(&pending, self.complete.join(&name))?;
        File::open(&self.complete)?.sync_all()?;
        Ok(name)
    }

    /// Removes what an attempt has written and not completed; nothing happens if there is nothing.
    pub(crate) fn discard(&self, lease: Lease) -> io::Result<()> {
        match fs::remove_dir_all(self.pending.join(name(lease))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes every complete artifact that no version needs; how many. Only at a start: while attempts run, one may be complete
    /// and its version not yet committed.
    pub(crate) fn sweep(&self, needed: &[String]) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.complete)? {
            let entry = entry?;
            let unneeded = entry.path() != self.pending && !needed.iter().any(|name| entry.file_name() == name.as_str());
            if unneeded && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
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

/// Writes out every file and folder below `folder`. Only plain files and folders may be there: a link could point at
/// something that is not part of the artifact.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        } else {
            let name = entry.file_name();
            let message = format!("the artifact holds `{}`, which is neither a file nor a folder", name.to_string_lossy());
            return Err(io::Error::other(message));
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use dunnage_types::JobId;

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
        assert_eq!(reopened.sweep(&[]).unwrap(), 1);
        assert!(!reopened.complete.join(name).exists());
        reopened.begin(unfinished).unwrap();
    }

    #[test]
    fn a_link_is_no_part_of_an_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        let lease = lease();
        std::os::unix::fs::symlink("/etc/passwd", artifacts.begin(lease).unwrap().join("link")).unwrap();
        assert!(artifacts.complete(lease).unwrap_err().to_string().contains("link"));
    }
}

//! Turns file addresses into local, readable files.
//!
//! [`Files`] resolves the addresses of a request: `file://` below the files root, and uploads, which [`Uploads`] takes in.
//! Objects in S3 are parsed and refused until their client is here.

#[cfg_attr(not(test), expect(dead_code, reason = "nothing is fetched until the S3 client is wired up"))]
mod cache;
mod error;
mod local;
#[cfg_attr(not(test), expect(dead_code, reason = "the S3 client is being written against it"))]
mod source;
mod uploads;

use std::io;
use std::path::{Path, PathBuf};

use dunnage_types::FileAddress;

pub use cache::{InvalidRevalidate, Revalidate};
pub use error::{FileError, FileProblem, SharedIoError};
pub use uploads::{Upload, Uploads};

use local::LocalRoot;

/// A file that can be read here and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyFile {
    /// Where it came from.
    pub address: FileAddress,
    /// Where its bytes are. Read only.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Changes whenever its contents do.
    pub etag: Option<String>,
}

/// Resolves file addresses.
#[derive(Debug)]
pub struct Files {
    root: Option<LocalRoot>,
    uploads: Uploads,
}

impl Files {
    /// Serves `file://` addresses below `root` (none without it), and uploads kept in `uploads`.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if one of the folders cannot be opened or made.
    pub fn new(root: Option<&Path>, uploads: &Path) -> io::Result<Self> {
        let root = root.map(LocalRoot::open).transpose()?;
        Ok(Self { root, uploads: Uploads::open(uploads)? })
    }

    /// The uploads.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Makes every file readable, in order.
    ///
    /// Blocks for a few system calls a file; run it elsewhere for many files.
    ///
    /// # Errors
    ///
    /// [`FileError`] for the first file that cannot be had.
    pub fn resolve(&self, addresses: &[FileAddress]) -> Result<Vec<ReadyFile>, FileError> {
        addresses.iter().map(|address| self.resolve_one(address)).collect()
    }

    fn resolve_one(&self, address: &FileAddress) -> Result<ReadyFile, FileError> {
        let refused = |problem| FileError { address: address.clone(), problem };
        let (path, size, etag) = match (address, &self.root) {
            (FileAddress::Local(path), Some(root)) => root.find(path).map_err(refused)?,
            (FileAddress::Local(_), None) => return Err(refused(FileProblem::NoRoot)),
            (FileAddress::Upload { id, name }, _) => self.uploads.find(*id, name).map_err(refused)?,
            (FileAddress::S3 { .. }, _) => return Err(refused(FileProblem::Unavailable("its client is not wired up".to_owned()))),
        };
        Ok(ReadyFile { address: address.clone(), path, size, etag: Some(etag) })
    }
}

//! Turns file addresses into local, readable files.
//!
//! [`Files`] resolves the addresses of a request: `file://` below the files root, and uploads, which [`Uploads`] takes in.
//! Objects in S3 are parsed and refused until their client is here.

mod local;
mod uploads;

use std::io;
use std::path::{Path, PathBuf};

use dunnage_types::FileAddress;

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
            (FileAddress::S3 { .. }, _) => return Err(refused(FileProblem::S3)),
        };
        Ok(ReadyFile { address: address.clone(), path, size, etag: Some(etag) })
    }
}

/// A file that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("`{address}`: {problem}")]
pub struct FileError {
    /// Which one.
    pub address: FileAddress,
    /// Why.
    #[source]
    pub problem: FileProblem,
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It does not exist.
    #[error("there is no such file")]
    Missing,
    /// It is a folder, a device or something else that is no plain file.
    #[error("this is no plain file")]
    NotAFile,
    /// It lies, perhaps by way of a symbolic link, outside of the files root.
    #[error("this is not below the files root")]
    OutsideRoot,
    /// The server may not read it.
    #[error("the server may not read this file")]
    Denied,
    /// There is no files root.
    #[error("this server does not serve local files; start it with `--files-root`")]
    NoRoot,
    /// Objects in S3 are not served yet.
    #[error("this server has no access to S3")]
    S3,
    /// The disk failed.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
}

impl From<rustix::io::Errno> for FileProblem {
    fn from(errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            Errno::XDEV | Errno::LOOP => Self::OutsideRoot,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::NXIO => Self::NotAFile,
            other => Self::Io(other.into()),
        }
    }
}

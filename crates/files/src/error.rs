//! Why a file cannot be had.

use std::io;
use std::time::Duration;

use dunnage_types::FileAddress;

/// A file that cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{address}`: {problem}")]
pub struct FileError {
    /// Which one.
    pub address: FileAddress,
    /// Why.
    #[source]
    pub problem: FileProblem,
}

/// Why a file cannot be had. Cheap to clone, because all who wait for the same object are told the same.
#[derive(Debug, Clone, thiserror::Error)]
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
    NotReadable,
    /// There is no files root.
    #[error("this server does not serve local files; start it with `--files-root`")]
    NoRoot,
    /// The disk failed under a local file.
    #[error("the file cannot be read")]
    Io(#[source] SharedIoError),

    /// The object lies outside of the buckets and prefixes that clients may name.
    #[error("this server does not serve this bucket or prefix (`--allow-files`)")]
    NotAllowed,
    /// The bucket does not exist.
    #[error("there is no such bucket")]
    NoBucket,
    /// The credentials do not suffice. S3 also says so of a missing key, to those who may not list the bucket.
    #[error("S3 denies access to this object, or it does not exist and the server may not list the bucket")]
    Denied,
    /// The object is in an archive and has to be restored first.
    #[error("the object is archived; restore it first")]
    Archived,
    /// The object was replaced while it was being read, and again when that was tried anew.
    #[error("the object changed while it was being read; try again when nobody writes it")]
    Changed,
    /// What arrived is not what its checksum says, every time it was tried.
    #[error("the object's bytes do not fit its checksum")]
    Corrupt,
    /// The body ended early, every time it was tried.
    #[error("S3 closed the connection before the object was complete")]
    Truncated,
    /// The object is larger than one may be.
    #[error("the object has {size} bytes; the largest that is fetched has {limit} (`{flag}`)")]
    TooLarge {
        /// How large it is.
        size: u64,
        /// How large it may be.
        limit: u64,
        /// The flag that sets the limit.
        flag: &'static str,
    },
    /// The objects of one request do not fit into the cache together.
    #[error("the files of this request do not fit into the cache together, which holds {limit} bytes (`--cache-bytes`)")]
    TooLargeTogether {
        /// How much fits.
        limit: u64,
    },
    /// S3 asks to be called less often, still after some tries; for how long, if it says so.
    #[error("S3 asks to slow down")]
    Throttled(Option<Duration>),
    /// S3 sent nothing, or next to nothing, for too long.
    #[error("S3 stopped sending")]
    Stalled,
    /// S3 cannot be reached, or fails.
    #[error("S3 is not available: {0}")]
    Unavailable(String),
    /// S3 has failed so often just now that it is not asked; when to try again.
    #[error("S3 has failed several times in a row and is not asked again for a moment")]
    BreakerOpen(Duration),
    /// The server's credentials are missing, expired or wrong, or its clock is.
    #[error("S3 does not accept the server's credentials: {0}")]
    Credentials(String),
    /// The bucket lies in another region, and cannot be asked there.
    #[error("the bucket lies in the region `{0}`; say so with `--s3-region`")]
    WrongRegion(String),

    /// The cache holds nothing but files in use.
    #[error("the cache is full of files in use; try again in a moment (`--cache-bytes` bounds it)")]
    CacheFull,
    /// The cache's disk is full, read-only, or fails.
    #[error("the cache's disk failed")]
    CacheDisk(#[source] SharedIoError),
    /// The file did not arrive in time.
    #[error("the file did not arrive within {0:?}")]
    DeadlinePassed(Duration),
}

impl FileProblem {
    /// Whether storage as a whole is out of order, so that other files fail too and the same one is worth trying later: a job then
    /// waits instead of using up its attempts.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::BreakerOpen(_) | Self::CacheDisk(_) | Self::CacheFull | Self::Credentials(_))
    }

    /// How long to wait before the same file is asked for again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BreakerOpen(wait) => Some(*wait),
            Self::Throttled(wait) => *wait,
            _ => None,
        }
    }

    /// Whether the same file may well be had later, although nothing is changed about it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.is_outage()
            || matches!(
                self,
                Self::Changed
                    | Self::Corrupt
                    | Self::Truncated
                    | Self::Throttled(_)
                    | Self::Stalled
                    | Self::Unavailable(_)
                    | Self::DeadlinePassed(_)
            )
    }
}

impl From<rustix::io::Errno> for FileProblem {
    fn from(errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            Errno::XDEV | Errno::LOOP => Self::OutsideRoot,
            Errno::ACCESS | Errno::PERM => Self::NotReadable,
            Errno::NXIO => Self::NotAFile,
            other => Self::Io(SharedIoError::new(other.into())),
        }
    }
}

/// An [`io::Error`] that several may be told of.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct SharedIoError(std::sync::Arc<io::Error>);

impl SharedIoError {
    /// Shares an error.
    #[must_use]
    pub fn new(error: io::Error) -> Self {
        Self(std::sync::Arc::new(error))
    }

    /// The error.
    #[must_use]
    pub fn get(&self) -> &io::Error {
        &self.0
    }
}

//! What the cache knows of S3: objects that can be asked for and saved. Tests of the cache put something else in its place.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;

use crate::FileProblem;

/// Which object, and which version of it if that was named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ObjectAddress {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// Such an object never changes.
    pub(crate) version_id: Option<String>,
}

/// What an answer says of an object before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectInfo {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its entity tag as S3 writes it, with the quotes. Differs when the contents do; it is not always a digest of them.
    pub(crate) etag: String,
}

/// How much a fetch matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody waits for it.
    Wanted,
    /// Somebody may want it soon; never in the way of what is wanted.
    Ahead,
}

/// Where objects come from.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    /// Asks for an object; one request if all goes well. Who holds a copy says its etag and may be told that it is still the one.
    ///
    /// Retries where that helps, and gives up within limits of its own. May be dropped at any time.
    async fn ask(&self, object: &ObjectAddress, held_etag: Option<&str>, urgency: Urgency) -> Result<Asked, FileProblem>;
}

/// The answer to [`Source::ask`].
pub(crate) enum Asked {
    /// The copy that is held is the object as it is.
    Unchanged,
    /// The object, of which nothing has been read yet.
    Found(Box<dyn Incoming>),
}

/// An object that is about to arrive.
#[async_trait]
pub(crate) trait Incoming: Send {
    /// What the answer says of it.
    fn info(&self) -> &ObjectInfo;

    /// Writes all of it into `file`, which is empty, from its beginning, and returns the CRC-64/NVME of the bytes.
    ///
    /// When this returns well, exactly `info().size` bytes of one version of the object have been written, and they fit the
    /// checksum that S3 keeps of it, if it keeps one of the whole. The disk's failures are [`FileProblem::CacheDisk`]. May be dropped at any time;
    /// `file` is then of no use.
    async fn save(self: Box<Self>, file: Arc<File>) -> Result<u64, FileProblem>;
}

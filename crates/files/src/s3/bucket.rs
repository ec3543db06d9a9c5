//! The service's own place in a bucket.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dunnage_types::FileAddress;
use uuid::Uuid;

use super::S3;
use crate::source::{Incoming, ObjectAddress, Urgency};
use crate::{FileError, FileProblem, SharedIoError};

/// A place in a bucket that belongs to the service: all keys are relative to a prefix. Cheap to clone.
///
/// What is written is checked by S3 against its checksum, and what is read by this server. All failures name the object, or the
/// prefix where there is none.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(super) s3: S3,
    pub(super) bucket: String,
    pub(super) prefix: String,
}

impl Bucket {
    /// The place below `prefix`, which is literal text and mostly ends in `/`, or all of the bucket if it is empty.
    #[must_use]
    pub fn new(s3: S3, bucket: &str, prefix: &str) -> Self {
        Self { s3, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    /// Where the object with this key is.
    pub(crate) fn object(&self, key: &str) -> ObjectAddress {
        ObjectAddress { bucket: self.bucket.clone(), key: self.full(key), version_id: None }
    }

    /// Finds out whether the place can be listed, written and cleaned; leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`FileError`] for the first of these that is not possible.
    pub async fn check(&self) -> Result<(), FileError> {
        let key = format!(".check-{}", Uuid::new_v4());
        self.page("", None, None).await?;
        self.put_bytes(&key, Bytes::from_static(b"may be removed"), "text/plain").await?;
        let removed = self.remove(std::slice::from_ref(&key)).await?;
        removed.into_iter().next().map_or(Ok(()), Err)
    }

    /// Writes a file, in parallel parts if it is large. Nothing is there before all of it is, and nothing is left of a part when it
    /// fails or is dropped.
    ///
    /// # Errors
    ///
    /// [`FileError`] if S3 does not take it, or the file cannot be read.
    pub async fn put(&self, key: &str, path: &Path) -> Result<(), FileError> {
        self.s3.put_file(&self.bucket, &self.full(key), path).await.map_err(|problem| self.error(key, problem))
    }

    /// Writes a few bytes.
    ///
    /// # Errors
    ///
    /// [`FileError`] if S3 does not take them.
    pub async fn put_bytes(&self, key: &str, bytes: impl Into<Bytes>, content_type: &str) -> Result<(), FileError> {
        let written = self.s3.put_bytes(&self.bucket, &self.full(key), bytes, Some(content_type)).await;
        written.map_err(|problem| self.error(key, problem))
    }

    /// Fetches an object into a new file, which nobody else may have made; its size. Nothing is left of it on failure. It is not
    /// forced to disk.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the object cannot be had, has more than `limit` bytes, or the file cannot be written.
    pub async fn get(&self, key: &str, to: &Path, limit: u64) -> Result<u64, FileError> {
        let fetched = match self.fetch(key, to, limit).await {
            // Replaced meanwhile: what is there now is what was asked for.
            Err(FileProblem::Changed) => self.fetch(key, to, limit).await,
            fetched => fetched,
        };
        fetched.map_err(|problem| self.error(key, problem))
    }

    /// Fetches a small object.
    ///
    /// # Errors
    ///
    /// [`FileError`] if it cannot be had, or has more than `limit` bytes.
    pub async fn get_bytes(&self, key: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let failed = |problem| self.error(key, problem);
        let file = Arc::new(file_in_memory().map_err(|error| failed(disk(error)))?);
        self.fetch_into(key, file.clone(), limit).await.map_err(failed)?;
        read_all(&file).map_err(|error| failed(disk(error)))
    }

    async fn fetch(&self, key: &str, to: &Path, limit: u64) -> Result<u64, FileProblem> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).open(to).map_err(disk)?;
        let unfinished = Unfinished(to);
        let size = self.fetch_into(key, Arc::new(file), limit).await?;
        std::mem::forget(unfinished);
        Ok(size)
    }

    async fn fetch_into(&self, key: &str, file: Arc<std::fs::File>, limit: u64) -> Result<u64, FileProblem> {
        let object = self.object(key);
        let Some(download) = self.s3.open(&object, None, Urgency::Wanted).await? else { return Err(FileProblem::Changed) };
        let size = download.info().size;
        if size > limit {
            return Err(FileProblem::TooLarge { size, limit, flag: "--bucket" });
        }
        Box::new(download).save(file).await?;
        Ok(size)
    }

    /// The key as S3 knows it.
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The address of a key as S3 knows it.
    pub(super) fn address_of(&self, key: String) -> FileAddress {
        FileAddress::S3 { bucket: self.bucket.clone(), key, version_id: None }
    }

    /// A failure, with a key relative to the prefix.
    pub(super) fn error(&self, key: &str, problem: FileProblem) -> FileError {
        FileError { address: self.address_of(self.full(key)), problem }
    }
}

/// A file that is removed when it is dropped.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(self.0) {
            tracing::warn!(path = %self.0.display(), %error, "an unfinished file cannot be removed");
        }
    }
}

fn file_in_memory() -> io::Result<std::fs::File> {
    let descriptor = rustix::fs::memfd_create("object", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(descriptor.into())
}

fn read_all(file: &std::fs::File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn disk(error: io::Error) -> FileProblem {
    FileProblem::CacheDisk(SharedIoError::new(error))
}

//! The service's own place in a bucket.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use dunnage_types::FileAddress;
use uuid::Uuid;

use super::S3;
use super::upload::abort;
use crate::source::{Incoming, ObjectAddress, Urgency};
use crate::{FileError, FileProblem, SharedIoError};

/// How many objects S3 removes at a time.
const REMOVED_AT_A_TIME: usize = 1000;

/// A place in a bucket that belongs to the service: all keys are relative to a prefix. Cheap to clone.
///
/// What is written is checked by S3 against its checksum, and what is read by this server. All failures name the object, or the
/// prefix where there is none.
#[derive(Debug, Clone)]
pub struct Bucket {
    s3: S3,
    bucket: String,
    prefix: String,
}

/// An object that [`Bucket::list`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, relative to the bucket's prefix.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by S3's clock.
    pub modified: SystemTime,
}

impl Bucket {
    /// The place below `prefix`, which is literal text and mostly ends in `/`, or all of the bucket if it is empty.
    #[must_use]
    pub fn new(s3: S3, bucket: &str, prefix: &str) -> Self {
        Self { s3, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    /// Finds out whether the place can be listed, written and cleaned; leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`FileError`] for the first of these that is not possible.
    pub async fn check(&self) -> Result<(), FileError> {
        let key = format!(".check-{}", Uuid::new_v4());
        self.page("", None, None).await?;
        self.put_bytes(&key, b"may be removed".to_vec(), "text/plain").await?;
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
    pub async fn put_bytes(&self, key: &str, bytes: Vec<u8>, content_type: &str) -> Result<(), FileError> {
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

    /// All objects whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`FileError`] if they cannot be listed.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, FileError> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = self.page(prefix, None, next).await?;
            found.extend(page.contents().iter().filter_map(|object| self.listed(object)));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// What follows `prefix` up to and with the next `/`, of all keys that have one there: `a/` and `b/` for `a/1`, `a/2` and `b/1`.
    ///
    /// # Errors
    ///
    /// [`FileError`] if they cannot be listed.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, FileError> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = self.page(prefix, Some("/"), next).await?;
            let below = self.full(prefix);
            let names = page.common_prefixes().iter().filter_map(|common| common.prefix()?.strip_prefix(below.as_str()));
            found.extend(names.map(str::to_owned));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Removes objects; those that are not there count as removed. The failures of single ones.
    ///
    /// # Errors
    ///
    /// [`FileError`] if a request fails as a whole; some objects may have been removed.
    pub async fn remove(&self, keys: &[String]) -> Result<Vec<FileError>, FileError> {
        let mut failures = Vec::new();
        for keys in keys.chunks(REMOVED_AT_A_TIME) {
            failures.extend(self.remove_some(keys).await?);
        }
        Ok(failures)
    }

    /// Ends the uploads in parts that began longer ago than `older_than`: nobody writes them any more. How many.
    ///
    /// # Errors
    ///
    /// [`FileError`] if they cannot be listed or ended.
    pub async fn abort_stale_uploads(&self, older_than: Duration) -> Result<usize, FileError> {
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        let failed = |problem| self.error("", problem);
        let (mut markers, mut ended) = ((None, None), 0);
        loop {
            let (key_marker, id_marker) = &markers;
            let uploads = |client: Client| {
                let request = client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.prefix);
                request.set_key_marker(key_marker.clone()).set_upload_id_marker(id_marker.clone()).send()
            };
            let page = self.s3.send_alone(&self.bucket, uploads).await.map_err(failed)?;
            for upload in page.uploads() {
                let (Some(key), Some(id), Some(begun)) = (upload.key(), upload.upload_id(), upload.initiated()) else { continue };
                if system_time(begun) <= before {
                    abort(&self.s3, &self.bucket, key, id).await.map_err(failed)?;
                    ended += 1;
                }
            }
            if page.is_truncated() != Some(true) {
                return Ok(ended);
            }
            markers = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    async fn fetch(&self, key: &str, to: &Path, limit: u64) -> Result<u64, FileProblem> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).open(to).map_err(disk)?;
        let unfinished = Unfinished(to);
        let size = self.fetch_into(key, Arc::new(file), limit).await?;
        std::mem::forget(unfinished);
        Ok(size)
    }

    async fn fetch_into(&self, key: &str, file: Arc<std::fs::File>, limit: u64) -> Result<u64, FileProblem> {
        let object = ObjectAddress { bucket: self.bucket.clone(), key: self.full(key), version_id: None };
        let Some(download) = self.s3.open(&object, None, Urgency::Wanted).await? else { return Err(FileProblem::Changed) };
        let size = download.info().size;
        if size > limit {
            return Err(FileProblem::TooLarge { size, limit, flag: "--bucket" });
        }
        Box::new(download).save(file).await?;
        Ok(size)
    }

    async fn page(&self, prefix: &str, delimiter: Option<&str>, token: Option<String>) -> Result<ListObjectsV2Output, FileError> {
        let objects = |client: Client| {
            let request = client.list_objects_v2().bucket(&self.bucket).prefix(self.full(prefix));
            request.set_delimiter(delimiter.map(str::to_owned)).set_continuation_token(token.clone()).send()
        };
        self.s3.send_alone(&self.bucket, objects).await.map_err(|problem| self.error(prefix, problem))
    }

    async fn remove_some(&self, keys: &[String]) -> Result<Vec<FileError>, FileError> {
        let failed = |problem| self.error("", problem);
        let unusable = |error: aws_sdk_s3::error::BuildError| failed(FileProblem::Unavailable(error.to_string()));
        let identifier = |key: &String| ObjectIdentifier::builder().key(self.full(key)).build().map_err(unusable);
        let identifiers = keys.iter().map(identifier).collect::<Result<Vec<_>, _>>()?;
        let delete = Delete::builder().set_objects(Some(identifiers)).quiet(true).build().map_err(unusable)?;
        let removal = |client: Client| client.delete_objects().bucket(&self.bucket).delete(delete.clone()).send();
        let answer = self.s3.send_alone(&self.bucket, removal).await.map_err(failed)?;
        Ok(answer.errors().iter().map(|error| self.removal_error(error)).collect())
    }

    fn removal_error(&self, error: &aws_sdk_s3::types::Error) -> FileError {
        let problem = match error.code() {
            Some("AccessDenied") => FileProblem::Denied,
            Some("SlowDown") => FileProblem::Throttled,
            code => FileProblem::Unavailable(format!("it does not remove the object (`{}`)", code.unwrap_or("without a code"))),
        };
        FileError { address: self.address_of(error.key().unwrap_or_default().to_owned()), problem }
    }

    fn listed(&self, object: &aws_sdk_s3::types::Object) -> Option<Listed> {
        let key = object.key()?.strip_prefix(&self.prefix)?.to_owned();
        let size = u64::try_from(object.size()?).ok()?;
        Some(Listed { key, size, modified: system_time(object.last_modified()?) })
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn address_of(&self, key: String) -> FileAddress {
        FileAddress::S3 { bucket: self.bucket.clone(), key, version_id: None }
    }

    fn error(&self, key: &str, problem: FileProblem) -> FileError {
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

fn system_time(time: &DateTime) -> SystemTime {
    SystemTime::try_from(*time).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn disk(error: io::Error) -> FileProblem {
    FileProblem::CacheDisk(SharedIoError::new(error))
}

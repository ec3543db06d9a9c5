//! What lies in the service's own place: listed, removed, and cleaned of broken uploads.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::bucket::Bucket;
use super::upload::abort;
use crate::{FileError, FileProblem};

/// How many objects S3 removes at a time.
const REMOVED_AT_A_TIME: usize = 1000;

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

    /// One page of what lies below `prefix`.
    pub(super) async fn page(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        token: Option<String>,
    ) -> Result<ListObjectsV2Output, FileError> {
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
            Some("SlowDown") => FileProblem::Throttled(None),
            code => FileProblem::Unavailable(format!("it does not remove the object (`{}`)", code.unwrap_or("without a code"))),
        };
        FileError { address: self.address_of(error.key().unwrap_or_default().to_owned()), problem }
    }

    fn listed(&self, object: &aws_sdk_s3::types::Object) -> Option<Listed> {
        let key = object.key()?.strip_prefix(&self.prefix)?.to_owned();
        let size = u64::try_from(object.size()?).ok()?;
        Some(Listed { key, size, modified: system_time(object.last_modified()?) })
    }
}

fn system_time(time: &DateTime) -> SystemTime {
    SystemTime::try_from(*time).unwrap_or(SystemTime::UNIX_EPOCH)
}

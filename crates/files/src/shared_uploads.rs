//! The uploads of jobs in the service's bucket, where whichever replica runs a job can read them.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use dunnage_types::{FileAddress, ServiceName};
use uuid::Uuid;

use crate::source::ObjectAddress;
use crate::{Bucket, FileError, Upload};

/// Uploads below `uploads/<service>/` in the bucket, each in a folder named by its id.
pub(crate) struct SharedUploads {
    bucket: Bucket,
    folder: String,
}

impl SharedUploads {
    pub(crate) fn new(bucket: Bucket, service: &ServiceName) -> Self {
        Self { bucket, folder: format!("uploads/{service}/") }
    }

    /// Puts every file of an upload into the bucket.
    pub(crate) async fn put(&self, upload: &Upload) -> Result<(), FileError> {
        for (address, path) in upload.paths() {
            if let FileAddress::Upload { id, name } = address {
                self.bucket.put(&self.key(*id, name), &path).await?;
            }
        }
        Ok(())
    }

    /// Where a file of an upload is.
    pub(crate) fn object(&self, id: Uuid, name: &str) -> ObjectAddress {
        self.bucket.object(&self.key(id, name))
    }

    /// Removes the uploads among `addresses`; one that is gone already is no error.
    pub(crate) async fn remove(&self, addresses: &[FileAddress]) -> Result<(), FileError> {
        let keys: Vec<_> = addresses
            .iter()
            .filter_map(|address| match address {
                FileAddress::Upload { id, name } => Some(self.key(*id, name)),
                _ => None,
            })
            .collect();
        self.remove_keys(keys).await
    }

    /// Removes every file of an upload that is not among `wanted` and older than `age`; how many.
    pub(crate) async fn sweep(&self, wanted: &[FileAddress], age: Duration) -> Result<usize, FileError> {
        let wanted: HashSet<_> = wanted
            .iter()
            .filter_map(|address| match address {
                FileAddress::Upload { id, .. } => Some(id.to_string()),
                _ => None,
            })
            .collect();
        let now = SystemTime::now();
        let is_old = |modified: SystemTime| now.duration_since(modified).is_ok_and(|elapsed| elapsed >= age);
        let listed = self.bucket.list(&self.folder).await?.into_iter();
        let orphans: Vec<_> = listed
            .filter(|object| is_old(object.modified) && self.upload_id(&object.key).is_some_and(|id| !wanted.contains(id)))
            .map(|object| object.key)
            .collect();
        let count = orphans.len();
        self.remove_keys(orphans).await?;
        Ok(count)
    }

    async fn remove_keys(&self, keys: Vec<String>) -> Result<(), FileError> {
        self.bucket.remove(&keys).await?.into_iter().next().map_or(Ok(()), Err)
    }

    fn key(&self, id: Uuid, name: &str) -> String {
        format!("{}{id}/{name}", self.folder)
    }

    /// The id in a key, if the key is one of ours.
    fn upload_id<'a>(&self, key: &'a str) -> Option<&'a str> {
        let (id, _) = key.strip_prefix(&self.folder)?.split_once('/')?;
        Uuid::try_parse(id).is_ok().then_some(id)
    }
}

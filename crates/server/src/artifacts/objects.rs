//! What artifacts need of a bucket. Tests put something else in its place.

use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use dunnage_files::{Bucket, FileError};

/// Objects by their keys. Every method retries by itself where that helps at once, and may be dropped at any time.
#[async_trait]
pub(crate) trait Objects: Send + Sync {
    /// Stores a file's bytes, in the place of what was there.
    async fn put(&self, key: &str, path: &Path) -> Result<(), FileError>;

    /// Stores bytes, in the place of what was there.
    async fn put_bytes(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<(), FileError>;

    /// Writes an object of at most `limit` bytes into the file `to`, which is made.
    async fn get(&self, key: &str, to: &Path, limit: u64) -> Result<(), FileError>;

    /// Reads an object of at most `limit` bytes.
    async fn get_bytes(&self, key: &str, limit: u64) -> Result<Bytes, FileError>;

    /// Every object whose key begins with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, FileError>;

    /// What stands between `prefix` and the next `/` in the keys that begin with it, each once.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>, FileError>;

    /// Removes objects, in order as far as the store allows; one that is not there is no error.
    async fn remove(&self, keys: Vec<String>) -> Result<(), FileError>;

    /// Gives up uploads that were begun longer ago than `age` and never ended; how many.
    async fn abort_stale_uploads(&self, age: Duration) -> Result<usize, FileError>;
}

#[async_trait]
impl Objects for Bucket {
    async fn put(&self, key: &str, path: &Path) -> Result<(), FileError> {
        self.put(key, path).await
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<(), FileError> {
        self.put_bytes(key, bytes, content_type).await
    }

    async fn get(&self, key: &str, to: &Path, limit: u64) -> Result<(), FileError> {
        self.get(key, to, limit).await.map(drop)
    }

    async fn get_bytes(&self, key: &str, limit: u64) -> Result<Bytes, FileError> {
        self.get_bytes(key, limit).await.map(Bytes::from)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, FileError> {
        let listed = self.list(prefix).await?;
        Ok(listed.into_iter().map(|object| StoredObject { key: object.key, modified: object.modified }).collect())
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, FileError> {
        let folders = self.folders(prefix).await?;
        Ok(folders.into_iter().map(|folder| folder.trim_end_matches('/').to_owned()).collect())
    }

    async fn remove(&self, keys: Vec<String>) -> Result<(), FileError> {
        self.remove(&keys).await?.into_iter().next().map_or(Ok(()), Err)
    }

    async fn abort_stale_uploads(&self, age: Duration) -> Result<usize, FileError> {
        self.abort_stale_uploads(age).await
    }
}

/// One object of a listing.
#[derive(Debug, Clone)]
pub(crate) struct StoredObject {
    pub(crate) key: String,
    pub(crate) modified: SystemTime,
}

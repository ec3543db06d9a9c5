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

    /// Writes an object of at most `limit` bytes into the file `to`, which is made and may not be there before.
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

/// One object of a listing.
#[derive(Debug, Clone)]
pub(crate) struct StoredObject {
    pub(crate) key: String,
    pub(crate) modified: SystemTime,
}

#[async_trait]
impl Objects for Bucket {
    async fn put(&self, key: &str, path: &Path) -> Result<(), FileError> {
        Self::put(self, key, path).await
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<(), FileError> {
        Self::put_bytes(self, key, bytes, content_type).await
    }

    async fn get(&self, key: &str, to: &Path, limit: u64) -> Result<(), FileError> {
        Self::get(self, key, to, limit).await.map(drop)
    }

    async fn get_bytes(&self, key: &str, limit: u64) -> Result<Bytes, FileError> {
        Self::get_bytes(self, key, limit).await.map(Bytes::from)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, FileError> {
        let listed = Self::list(self, prefix).await?.into_iter();
        Ok(listed.map(|object| StoredObject { key: object.key, modified: object.modified }).collect())
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, FileError> {
        let folders = Self::folders(self, prefix).await?.into_iter();
        Ok(folders.map(|folder| folder.trim_end_matches('/').to_owned()).collect())
    }

    async fn remove(&self, keys: Vec<String>) -> Result<(), FileError> {
        Self::remove(self, &keys).await?.into_iter().next().map_or(Ok(()), Err)
    }

    async fn abort_stale_uploads(&self, age: Duration) -> Result<usize, FileError> {
        Self::abort_stale_uploads(self, age).await
    }
}

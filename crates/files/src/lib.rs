//! Turns file addresses into local, readable files.
//!
//! [`Files`] resolves the addresses of a request: objects in S3, by way of a bounded cache on the disk; `file://` below the files
//! root; and uploads, which [`Uploads`] takes in. Nothing else is a file. [`Bucket`] is where a service keeps what its replicas share.

mod cache;
mod error;
mod local;
mod objects;
mod s3;
mod shared_uploads;
mod source;
mod uploads;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunnage_types::{FileAddress, ObjectPrefix, ServiceName};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::Instant;

pub use cache::{CacheCounters, CacheSettings, InvalidRevalidate, Revalidate};
pub use error::{FileError, FileProblem, SharedIoError};
pub use s3::{Bucket, Listed, S3Settings};
pub use uploads::{Upload, Uploads};

use cache::{Cache, Cached, RequestQuota};
use local::LocalRoot;
use objects::{Objects, object_of};
use s3::S3;
use shared_uploads::SharedUploads;

/// How many files of one request are fetched at once; the byte budget bounds them further.
const FILES_AT_ONCE: usize = 64;

/// A file that can be read here and now, and stays where it is for as long as this or a copy of it exists.
#[derive(Clone)]
pub struct ReadyFile {
    /// Where it came from.
    pub address: FileAddress,
    /// Where its bytes are. Read only.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Changes whenever its contents do.
    pub etag: Option<String>,
    /// Keeps a copy in the cache.
    _hold: Option<Arc<dyn Any + Send + Sync>>,
}

/// Where files come from.
#[derive(Debug, Clone)]
pub struct FilesSettings {
    /// Whose files they are.
    pub service: ServiceName,
    /// The folder below which `file://` addresses are served; none are without it. `--files-root`.
    pub root: Option<PathBuf>,
    /// The folder for files that come with requests.
    pub uploads: PathBuf,
    /// How S3 is reached.
    pub s3: S3Settings,
    /// The copies kept of objects.
    pub cache: CacheSettings,
    /// Which objects clients may name; empty for all that the credentials allow. `--allow-files`.
    pub allowed: Vec<ObjectPrefix>,
    /// Where the service keeps what its replicas share. `--bucket`.
    pub bucket: Option<ObjectPrefix>,
}

/// Resolves file addresses.
pub struct Files {
    root: Option<LocalRoot>,
    uploads: Uploads,
    s3: S3,
    objects: Objects,
    bucket: Option<Bucket>,
    shared_uploads: Option<SharedUploads>,
}

impl Files {
    /// Opens the folders. S3 is not asked before the first object is wanted.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if one of the folders cannot be opened or made.
    pub fn open(settings: FilesSettings) -> Result<Self, OpenError> {
        let FilesSettings { service, root, uploads, s3, cache, allowed, bucket } = settings;
        let s3 = S3::connect(s3);
        let failed = |what, path: &PathBuf| {
            let path = path.clone();
            move |source| OpenError { what, path, source }
        };
        let bucket_of_service = bucket.as_ref().map(|place| Bucket::new(s3.clone(), &place.bucket, &place.key("")));
        Ok(Self {
            root: root.map(|root| LocalRoot::open(&root).map_err(failed("files", &root))).transpose()?,
            uploads: Uploads::open(&uploads).map_err(failed("uploads", &uploads))?,
            objects: Objects::new(open_cache(cache, &s3)?, allowed, bucket),
            shared_uploads: bucket_of_service.clone().map(|bucket| SharedUploads::new(bucket, &service)),
            bucket: bucket_of_service,
            s3,
        })
    }

    /// Takes in files that come with requests.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Where the service keeps what its replicas share, if it does.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Makes every file readable, in order, by `deadline`.
    ///
    /// # Errors
    ///
    /// [`FileError`] for the first file that cannot be had.
    pub async fn fetch(&self, addresses: &[FileAddress], deadline: Instant) -> Result<Vec<ReadyFile>, FileError> {
        let quota = RequestQuota::default();
        if let [only] = addresses {
            return Ok(vec![self.fetch_one(only, &quota, deadline).await?]);
        }
        let mut fetches: Vec<BoxFuture<'_, _>> = Vec::with_capacity(addresses.len());
        for address in addresses {
            fetches.push(Box::pin(self.fetch_one(address, &quota, deadline)));
        }
        futures_util::stream::iter(fetches).buffered(FILES_AT_ONCE).try_collect().await
    }

    /// Fetches an object into the cache that may be wanted soon; other files are left alone.
    ///
    /// # Errors
    ///
    /// [`FileError`] if it cannot be had now.
    pub async fn fetch_ahead(&self, address: &FileAddress) -> Result<(), FileError> {
        let Some(object) = object_of(address) else { return Ok(()) };
        self.objects.fetch_ahead(&object).await.map_err(|problem| FileError { address: address.clone(), problem })
    }

    /// For how long S3 is not asked, because it has failed several times in a row; `None` while it is.
    pub fn outage(&self) -> Option<Duration> {
        self.s3.breaker_open()
    }

    /// What is wrong with the disk of the cache, until it works again.
    pub fn trouble(&self) -> Option<String> {
        self.objects.cache().trouble()
    }

    /// What the cache has done since it was opened.
    pub fn cache_counters(&self) -> CacheCounters {
        self.objects.cache().counters()
    }

    /// Writes the result of a job, a JSON document, as the whole of an object in S3.
    ///
    /// # Errors
    ///
    /// [`FileError`] if S3 does not take it. Dropped, or after an error that is not final, it may have been written all the same.
    pub async fn put_result(&self, address: &FileAddress, document: Bytes) -> Result<(), FileError> {
        self.s3.put_result(address, document).await
    }

    /// Puts the files of an upload where every replica can read them, if there is such a place, and removes them here: whoever comes to
    /// know of them reads those. Otherwise the upload is given back, to be kept here.
    ///
    /// # Errors
    ///
    /// [`FileError`]; some of the files may be there then.
    pub async fn share(&self, upload: Upload) -> Result<Option<Upload>, FileError> {
        let Some(shared) = &self.shared_uploads else { return Ok(Some(upload)) };
        shared.put(&upload).await?;
        Ok(None)
    }

    /// Removes the uploads among `addresses`; one that is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`RemoveError`] if one cannot be removed.
    pub async fn remove_uploads(&self, addresses: &[FileAddress]) -> Result<(), RemoveError> {
        self.uploads.remove(addresses)?;
        match &self.shared_uploads {
            Some(shared) => Ok(shared.remove(addresses).await?),
            None => Ok(()),
        }
    }

    /// Removes every file of an upload that replicas share which is not among `wanted` and older than `age`; how many. A young one may
    /// belong to a job that is being committed.
    ///
    /// # Errors
    ///
    /// [`FileError`] if they cannot be listed or removed.
    pub async fn sweep_shared_uploads(&self, wanted: &[FileAddress], age: Duration) -> Result<usize, FileError> {
        match &self.shared_uploads {
            Some(shared) => shared.sweep(wanted, age).await,
            None => Ok(0),
        }
    }

    /// One file. What lies here takes a few system calls; handing them to another thread would cost more.
    async fn fetch_one(&self, address: &FileAddress, quota: &RequestQuota, deadline: Instant) -> Result<ReadyFile, FileError> {
        let refused = |problem| FileError { address: address.clone(), problem };
        let (path, size, etag) = match address {
            FileAddress::Local(path) => {
                let root = self.root.as_ref().ok_or_else(|| refused(FileProblem::NoRoot))?;
                root.find(path).map_err(refused)?
            }
            FileAddress::Upload { id, name } => match (self.uploads.find(*id, name), &self.shared_uploads) {
                (Err(FileProblem::Missing), Some(shared)) => {
                    let object = shared.object(*id, name);
                    return self.by(deadline, address, self.objects.fetch_own(&object, quota)).await;
                }
                (found, _) => found.map_err(refused)?,
            },
            FileAddress::S3 { .. } => {
                let Some(object) = object_of(address) else { return Err(refused(FileProblem::Missing)) };
                return self.by(deadline, address, self.objects.fetch(&object, quota)).await;
            }
        };
        Ok(ReadyFile { address: address.clone(), path, size, etag: Some(etag), _hold: None })
    }

    async fn by(
        &self,
        deadline: Instant,
        address: &FileAddress,
        fetch: impl Future<Output = Result<Cached, FileProblem>>,
    ) -> Result<ReadyFile, FileError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let passed = || FileProblem::DeadlinePassed(Duration::from_millis(left.as_millis().try_into().unwrap_or(u64::MAX)));
        let fetched = tokio::time::timeout_at(deadline, fetch).await.unwrap_or_else(|_| Err(passed()));
        let cached = fetched.map_err(|problem| FileError { address: address.clone(), problem })?;
        Ok(ReadyFile {
            address: address.clone(),
            path: cached.path().to_owned(),
            size: cached.size(),
            etag: Some(cached.etag().to_owned()),
            _hold: Some(Arc::new(cached)),
        })
    }
}

fn open_cache(settings: CacheSettings, s3: &S3) -> Result<Cache, OpenError> {
    let path = settings.folder.clone();
    Cache::open(settings, Arc::new(s3.clone())).map_err(|source| OpenError { what: "cache", path, source })
}

impl fmt::Debug for ReadyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, path, size, etag, _hold } = self;
        formatter
            .debug_struct("ReadyFile")
            .field("address", address)
            .field("path", path)
            .field("size", size)
            .field("etag", etag)
            .finish_non_exhaustive()
    }
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the folder `{}` for {what} cannot be used", path.display())]
pub struct OpenError {
    /// What it is for.
    pub what: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Uploads that cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Those that lie here.
    #[error("uploads in the data folder cannot be removed")]
    Here(#[from] io::Error),
    /// Those that replicas share.
    #[error("uploads in the bucket cannot be removed")]
    Shared(#[from] FileError),
}

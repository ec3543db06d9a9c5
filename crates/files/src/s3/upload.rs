//! Writes objects, in parallel parts if they are large.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use dunnage_types::FileAddress;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::S3;
use super::checksum::{Declared, Sum, crc64_nvme, crc64_nvme_text};
use crate::source::Urgency;
use crate::{FileError, FileProblem, SharedIoError};

/// A file of fewer bytes is written by one request.
const SINGLE_BYTES: u64 = 16 << 20;
/// How many parts an upload may have.
const MOST_PARTS: u64 = 10_000;
/// The least that S3 takes as a part, except for the last one.
const LEAST_PART_BYTES: u64 = 5 << 20;
/// How many parts of a file are sent at a time.
const STREAMS: usize = 4;
/// What is sent a second at least; a request may take as long as its bytes do at this rate, and the time that S3 may be silent.
const LEAST_BYTES_PER_SECOND: u64 = 128 << 10;

impl S3 {
    /// Writes a result, as JSON, to any object.
    ///
    /// # Errors
    ///
    /// [`FileError`] if S3 does not take it, or the address is not one of S3.
    pub async fn put_result(&self, address: &FileAddress, bytes: impl Into<Bytes>) -> Result<(), FileError> {
        let written = match address {
            FileAddress::S3 { bucket, key, version_id: None } => self.put_bytes(bucket, key, bytes, Some("application/json")).await,
            // A version is given by S3, not chosen by who writes.
            _ => Err(FileProblem::NotAllowed),
        };
        written.map_err(|problem| FileError { address: address.clone(), problem })
    }

    /// Writes an object by one request.
    pub(super) async fn put_bytes(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Bytes>,
        content_type: Option<&str>,
    ) -> Result<(), FileProblem> {
        let bytes = bytes.into();
        let _share = self.0.budget.take(bytes.len() as u64, Urgency::Wanted).await;
        let (checksum, length) = (crc64_nvme_text(crc64_nvme(&bytes)), bytes.len() as u64);
        let put = |client: Client| {
            let request = client.put_object().bucket(bucket).key(key).set_content_type(content_type.map(str::to_owned));
            let request = request.checksum_crc64_nvme(&checksum).body(ByteStream::from(bytes.clone()));
            request.customize().config_override(self.patience(length)).send()
        };
        self.send_alone(bucket, put).await.map(drop)
    }

    /// Writes a file.
    pub(super) async fn put_file(&self, bucket: &str, key: &str, path: &Path) -> Result<(), FileProblem> {
        let (file, size) = open(path).map_err(disk)?;
        if size < SINGLE_BYTES {
            let bytes = read(Arc::new(file), 0, size).await?;
            return self.put_bytes(bucket, key, bytes, None).await;
        }
        let upload = Upload::begin(self, bucket, key).await?;
        upload.send_all(Arc::new(file), size).await
    }

    /// Lets a request take as long as its bytes need at the least rate.
    fn patience(&self, bytes: u64) -> aws_sdk_s3::config::Builder {
        let patience = self.0.settings.stall + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND);
        Config::builder().timeout_config(TimeoutConfig::builder().read_timeout(patience).build())
    }
}

/// Ends an upload in parts and removes what was sent of it.
pub(super) async fn abort(s3: &S3, bucket: &str, key: &str, id: &str) -> Result<(), FileProblem> {
    let abortion = |client: Client| client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id).send();
    match s3.send_alone(bucket, abortion).await {
        // Already ended, by somebody else.
        Err(FileProblem::Missing) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// An upload in parts. Dropped before it is complete, it is ended in the background; a crash leaves it to
/// [`Bucket::abort_stale_uploads`](super::Bucket::abort_stale_uploads).
pub(super) struct Upload {
    s3: S3,
    bucket: String,
    key: String,
    id: String,
    complete: bool,
}

impl Upload {
    pub(super) async fn begin(s3: &S3, bucket: &str, key: &str) -> Result<Self, FileProblem> {
        let begin = |client: Client| {
            let request = client.create_multipart_upload().bucket(bucket).key(key);
            request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject).send()
        };
        let answer = s3.send_alone(bucket, begin).await?;
        let id = answer.upload_id.ok_or_else(|| FileProblem::Unavailable("it begins an upload without naming it".to_owned()))?;
        Ok(Self { s3: s3.clone(), bucket: bucket.to_owned(), key: key.to_owned(), id, complete: false })
    }

    async fn send_all(mut self, file: Arc<File>, size: u64) -> Result<(), FileProblem> {
        let part_bytes = self.s3.0.settings.part_bytes.max(LEAST_PART_BYTES).max(size.div_ceil(MOST_PARTS));
        let parts = (1..).zip((0..size).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX)));
        let sending = parts.map(|(number, start)| self.send_part(number, file.clone(), start, part_bytes.min(size - start)));
        let sent: Vec<(CompletedPart, Sum)> = iter(sending).buffered(STREAMS).try_collect().await?;
        self.complete(sent, size).await
    }

    async fn send_part(&self, number: i32, file: Arc<File>, start: u64, length: u64) -> Result<(CompletedPart, Sum), FileProblem> {
        let _share = self.s3.0.budget.take(length, Urgency::Wanted).await;
        let bytes = Bytes::from(read(file, start, length).await?);
        let mut sum = Declared::Nothing.sum();
        sum.update(&bytes);
        let checksum = crc64_nvme_text(sum.crc64_nvme());
        let send = |client: Client| {
            let request = client.upload_part().bucket(&self.bucket).key(&self.key).upload_id(&self.id).part_number(number);
            let request = request.checksum_crc64_nvme(&checksum).body(ByteStream::from(bytes.clone()));
            request.customize().config_override(self.s3.patience(length)).send()
        };
        let answer = self.s3.send_alone(&self.bucket, send).await?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).checksum_crc64_nvme(checksum).build();
        Ok((part, sum))
    }

    /// Makes the parts an object. S3 may take long to answer.
    async fn complete(&mut self, sent: Vec<(CompletedPart, Sum)>, size: u64) -> Result<(), FileProblem> {
        let mut whole = Declared::Nothing.sum();
        sent.iter().for_each(|(_, sum)| whole.append(sum));
        let parts = CompletedMultipartUpload::builder().set_parts(Some(sent.into_iter().map(|(part, _)| part).collect())).build();
        let checksum = crc64_nvme_text(whole.crc64_nvme());
        let complete = |client: Client| {
            let request = client.complete_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
            let request =
                request.multipart_upload(parts.clone()).checksum_crc64_nvme(&checksum).checksum_type(ChecksumType::FullObject);
            request.customize().config_override(self.s3.patience(size)).send()
        };
        match self.s3.send_alone(&self.bucket, complete).await {
            // It may have succeeded although the answer was lost or is strange: then the object is there, and the upload is gone.
            Err(FileProblem::Missing | FileProblem::Stalled | FileProblem::Unavailable(_))
                if self.is_there(size, &checksum).await? => {}
            outcome => drop(outcome?),
        }
        self.complete = true;
        Ok(())
    }

    async fn is_there(&self, size: u64, checksum: &str) -> Result<bool, FileProblem> {
        let head =
            |client: Client| client.head_object().bucket(&self.bucket).key(&self.key).checksum_mode(ChecksumMode::Enabled).send();
        let found = self.s3.send_alone(&self.bucket, head).await?;
        let same_size = found.content_length().and_then(|length| u64::try_from(length).ok()) == Some(size);
        Ok(same_size && found.checksum_crc64_nvme() == Some(checksum))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.complete, Handle::try_current()) else { return };
        let (s3, bucket, key, id) = (self.s3.clone(), self.bucket.clone(), self.key.clone(), self.id.clone());
        runtime.spawn(async move {
            if let Err(problem) = abort(&s3, &bucket, &key, &id).await {
                tracing::warn!(bucket, key, %problem, "a broken upload cannot be ended; it is ended when it is old");
            }
        });
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

async fn read(file: Arc<File>, start: u64, length: u64) -> Result<Vec<u8>, FileProblem> {
    let read = spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start).map(|()| bytes)
    });
    read.await.map_err(|error| disk(io::Error::other(error)))?.map_err(disk)
}

fn disk(error: io::Error) -> FileProblem {
    FileProblem::CacheDisk(SharedIoError::new(error))
}

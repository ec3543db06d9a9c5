//! Fetches an object, in parallel parts if it is large.

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::task::spawn_blocking;

use super::ask::Opened;
use super::breaker::Pass;
use super::budget::Share;
use super::checksum::{Declared, Sum};
use super::parts::Parts;
use super::retry::Retries;
use super::stream::Stream;
use super::writer::PartWriter;
use super::{S3, tell};
use crate::source::{Incoming, ObjectAddress, ObjectInfo, Urgency};
use crate::{FileProblem, SharedIoError};

/// How many requests fetch one object, the first one included.
const STREAMS: u64 = 8;

/// An object that has begun to arrive.
///
/// The answer that told of it brings its parts from the first on. If there are more than two, further requests bring parts from the
/// last on, as many at a time as the budget allows, until they meet; what arrives of a part that somebody else has is thrown away.
/// All of them ask for the object as it was at first, by its etag.
pub(super) struct Download {
    s3: S3,
    object: ObjectAddress,
    urgency: Urgency,
    opened: Opened,
    pass: Pass,
}

impl Download {
    pub(super) fn new(s3: S3, object: ObjectAddress, urgency: Urgency, opened: Opened, pass: Pass) -> Self {
        Self { s3, object, urgency, opened, pass }
    }

    /// Fetches all of it; if it changes or does not fit its checksum, once more from the beginning.
    async fn fetch(s3: &S3, object: &ObjectAddress, urgency: Urgency, opened: Opened, file: Arc<File>) -> Result<u64, FileProblem> {
        let info = opened.info.clone();
        let problem = match (Attempt { s3, object, urgency, file: file.clone() }).run(opened).await {
            Err(problem @ (FileProblem::Changed | FileProblem::Corrupt)) => problem,
            outcome => return outcome,
        };
        tracing::info!(bucket = object.bucket, key = object.key, %problem, "fetching an object once more from the beginning");
        let opened = s3.open_stream(object, None, urgency).await?;
        // Whoever waits was told the size and the etag of what was there before.
        if opened.info != info {
            return Err(FileProblem::Changed);
        }
        Attempt { s3, object, urgency, file }.run(opened).await
    }
}

#[async_trait]
impl Incoming for Download {
    fn info(&self) -> &ObjectInfo {
        &self.opened.info
    }

    async fn save(self: Box<Self>, file: Arc<File>) -> Result<u64, FileProblem> {
        let Self { s3, object, urgency, opened, pass } = *self;
        let outcome = Self::fetch(&s3, &object, urgency, opened, file).await;
        tell(pass, outcome.as_ref().err());
        outcome
    }
}

/// One attempt to fetch all of an object.
struct Attempt<'a> {
    s3: &'a S3,
    object: &'a ObjectAddress,
    urgency: Urgency,
    file: Arc<File>,
}

/// What all streams of an attempt share.
struct Progress {
    info: ObjectInfo,
    declared: Declared,
    parts: Parts,
    sums: Mutex<Vec<Option<Sum>>>,
}

impl Attempt<'_> {
    async fn run(&self, opened: Opened) -> Result<u64, FileProblem> {
        let parts = Parts::new(opened.info.size, self.s3.0.settings.part_bytes);
        let sums = Mutex::new(vec![None; parts.count()]);
        let progress = Progress { info: opened.info, declared: opened.declared, parts, sums };
        let helpers = (progress.parts.count() as u64).saturating_sub(2).min(STREAMS - 1);
        let front = self.save_from_the_front(&progress, opened.stream, opened.share);
        let backs = try_join_all((0..helpers).map(|_| self.save_from_the_back(&progress)));
        tokio::try_join!(front, backs)?;
        self.check(progress).await
    }

    /// Saves parts from the first on, from one stream as long as it lasts.
    async fn save_from_the_front(&self, progress: &Progress, stream: Stream, _share: Share) -> Result<(), FileProblem> {
        let mut stream = Some(stream);
        while let Some((index, range)) = progress.parts.first() {
            self.save_part(progress, index, range, &mut stream).await?;
        }
        Ok(())
    }

    /// Saves parts from the last on, each by a request of its own.
    async fn save_from_the_back(&self, progress: &Progress) -> Result<(), FileProblem> {
        loop {
            let _share = tokio::select! {
                share = self.s3.0.budget.take(progress.parts.part_bytes, self.urgency) => share,
                // Others may hold the budget for long; when all parts are taken, there is nothing left to wait for.
                () = progress.parts.all_taken() => return Ok(()),
            };
            let Some((index, range)) = progress.parts.last() else { return Ok(()) };
            self.save_part(progress, index, range, &mut None).await?;
        }
    }

    /// Saves a part from `stream`, if there is one that begins with it, and otherwise by a request; what is missing when a stream
    /// ends early, by further requests.
    async fn save_part(
        &self,
        progress: &Progress,
        index: usize,
        range: Range<u64>,
        stream: &mut Option<Stream>,
    ) -> Result<(), FileProblem> {
        let mut writer = PartWriter::new(self.file.clone(), range, progress.declared.sum());
        let mut retries = Retries::of_resumption(self.s3.0.settings.retries);
        while !writer.missing().is_empty() {
            let mut of_this_part;
            let from = match stream {
                Some(stream) => stream,
                None => {
                    let Range { start, end } = writer.missing();
                    of_this_part = self.s3.open_range(self.object, &progress.info, start, end).await?;
                    &mut of_this_part
                }
            };
            let Err(problem) = from.fill(&mut writer).await else { break };
            *stream = None;
            let resumable = matches!(problem, FileProblem::Truncated | FileProblem::Stalled);
            if !resumable || !retries.wait(None).await {
                return Err(problem);
            }
            tracing::debug!(bucket = self.object.bucket, key = self.object.key, %problem, missing = ?writer.missing(), "resuming");
        }
        let sum = writer.finish().await?;
        progress.sums.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(sum);
        Ok(())
    }

    /// Compares all that was written with what S3 declares of it; its CRC-64/NVME.
    async fn check(&self, progress: Progress) -> Result<u64, FileProblem> {
        let mut whole = progress.declared.sum();
        for sum in progress.sums.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // Every part was taken by one stream, and all streams have ended well.
            whole.append(&sum.ok_or(FileProblem::Truncated)?);
        }
        let (crc, declared, file) = (whole.crc64_nvme(), progress.declared, self.file.clone());
        if matches!(declared, Declared::Hash(..)) {
            let check = spawn_blocking(move || declared.check(&whole, &file)).await;
            check.map_err(|error| FileProblem::CacheDisk(SharedIoError::new(std::io::Error::other(error))))??;
        } else {
            declared.check(&whole, &file)?;
        }
        Ok(crc)
    }
}

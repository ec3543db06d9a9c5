//! Reading jobs and their logs for those who listen, without swamping the database and without giving up at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dunnage_store::{Store, StoreError};
use dunnage_types::{Job, JobId, LogLine};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::problem::chain;

/// How many lines are read at once.
pub(super) const PAGE: usize = 250;
/// How many reads may be under way at once. Requests need the database, too; those who listen can wait for a turn.
const AT_ONCE: usize = 4;
/// How long a read is repeated while the database is away.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The first wait before a read is repeated; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The part of a store that is listened to.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// One job, or `None` if there is none.
    async fn job(&self, job: JobId) -> Result<Option<Job>, StoreError>;

    /// Up to `limit` lines of its log behind the line `after`.
    async fn log(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError>;
}

#[async_trait]
impl Source for Arc<dyn Store> {
    async fn job(&self, job: JobId) -> Result<Option<Job>, StoreError> {
        (**self).job(job).await
    }

    async fn log(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        (**self).log(job, after, limit).await
    }
}

/// Reads in turn, and again and again while the database is away, until patience ends.
pub(super) struct Reads {
    source: Box<dyn Source>,
    turns: Semaphore,
}

impl Reads {
    pub(super) fn new(source: Box<dyn Source>) -> Self {
        Self { source, turns: Semaphore::new(AT_ONCE) }
    }

    /// One job.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownJob`] if it has been removed.
    pub(super) async fn job(&self, job: JobId) -> Result<Job, StoreError> {
        self.patiently(|| self.source.job(job)).await?.ok_or(StoreError::UnknownJob(job))
    }

    /// The next lines of its log behind the line `after`; as many as a [`PAGE`] has, or all there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownJob`] if it has been removed.
    pub(super) async fn log(&self, job: JobId, after: u64) -> Result<Vec<LogLine>, StoreError> {
        self.patiently(|| self.source.log(job, after, PAGE as u32)).await
    }

    async fn patiently<T, F>(&self, read: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let begin = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            match self.in_turn(read()).await {
                Err(error @ StoreError::Unavailable(_)) if begin.elapsed() < PATIENCE => {
                    tracing::debug!(error = %chain(&error), "a job that is listened to could not be read; trying again");
                }
                read => return read,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn in_turn<T>(&self, read: impl Future<Output = T>) -> T {
        // Nobody closes the semaphore.
        let _turn = self.turns.acquire().await;
        read.await
    }
}

//! The live view of jobs: what `/jobs/{id}/events` streams.
//!
//! The store is the only source, so that every replica can tell of every job. A [`stream`] tells one client; all streams of a job
//! listen to one [`watcher`], which is the only one that looks again and again. Hints from this process make it look at once.

#[cfg(test)]
mod fake;
mod frame;
mod position;
mod reads;
mod stream;
#[cfg(test)]
mod tests;
mod watcher;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use dunnage_loops::Loops;
use dunnage_store::Store;
use dunnage_types::{Job, JobId};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Sight;

pub(crate) use self::position::{InvalidPosition, Position};
use self::reads::{Reads, Source};
use self::watcher::Watchers;

/// Every stream of a server, and what they listen to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    watchers: Watchers,
    places: Arc<Semaphore>,
    max_streams: usize,
}

/// The right to one of the streams there may be at once; ends when dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Events {
    /// Of the jobs in `store`, with at most so many streams at once.
    pub(crate) fn new(store: Arc<dyn Store>, max_streams: usize, loops: Loops) -> Self {
        Self::of(Box::new(store), max_streams, loops)
    }

    fn of(source: Box<dyn Source>, max_streams: usize, loops: Loops) -> Self {
        let max_streams = max_streams.min(Semaphore::MAX_PERMITS);
        Self { watchers: Watchers::new(Reads::new(source), loops), places: Arc::new(Semaphore::new(max_streams)), max_streams }
    }

    /// Has whoever listens to the job told at once that something may have changed. Only a hint; without it they hear soon.
    pub(crate) fn hint(&self, job: JobId) {
        self.watchers.hint(job);
    }

    /// A place for one more stream, or `None` when all are taken.
    pub(crate) fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|_permit| Place { _permit })
    }

    /// How many streams are open.
    pub(crate) fn open_streams(&self) -> usize {
        self.max_streams - self.places.available_permits()
    }

    /// The events of a job, as it has just been read, behind `position`, as far as `sight` goes.
    ///
    /// The stream ends behind the job's terminal state; before that when the job is removed, when the store stays away, and as soon
    /// as `over` does. Dropping it frees its place.
    pub(crate) fn stream<Over: Future<Output = ()> + Send + 'static>(
        &self,
        job: Job,
        position: Position,
        sight: Sight,
        place: Place,
        over: Over,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + use<Over> {
        stream::open(self.watchers.clone(), job, position, sight, place, over)
    }
}

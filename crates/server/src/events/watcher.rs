//! Looking at a job for everybody who listens to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_loops::{Beat, Loops};
use dunnage_store::StoreError;
use dunnage_types::{Job, JobId, LogLine};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::reads::{PAGE, PATIENCE, Reads};
use crate::problem::chain;

/// The usual time between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The shortest time between two looks, however many hints there are.
const REST: Duration = Duration::from_millis(50);

/// The jobs that somebody listens to, each with a task that watches it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Watchers {
    shared: Arc<Shared>,
}

struct Shared {
    reads: Reads,
    loops: Loops,
    watched: Mutex<HashMap<JobId, Arc<Watched>>>,
}

/// A job that somebody listens to.
struct Watched {
    job: JobId,
    seen: watch::Sender<Seen>,
    hint: Notify,
    /// Somebody has joined since the last look began, and has to be told of the next one even if it finds nothing new.
    has_newcomers: AtomicBool,
}

/// What was found at the last look. Every line that there was when the job was read is in the tail or before it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) job: Arc<Job>,
    pub(super) tail: Tail,
    /// When the look began; the job is no older than that.
    pub(super) looked_at: Instant,
}

/// The newest piece of a log, for those who have everything before it.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    after: u64,
    lines: Arc<[LogLine]>,
}

impl Tail {
    /// The last line's number.
    pub(super) fn end(&self) -> u64 {
        self.lines.last().map_or(self.after, |line| line.sequence)
    }

    /// The lines behind the line `after`, or `None` if some of them come before this piece.
    pub(super) fn behind(&self, after: u64) -> Option<&[LogLine]> {
        let begins_in_time = after >= self.after;
        begins_in_time.then(|| &self.lines[self.lines.partition_point(|line| line.sequence <= after)..])
    }
}

impl Watchers {
    pub(super) fn new(reads: Reads, loops: Loops) -> Self {
        Self { shared: Arc::new(Shared { reads, loops, watched: Mutex::default() }) }
    }

    pub(super) fn reads(&self) -> &Reads {
        &self.shared.reads
    }

    /// Listens to a job, for somebody who has just read it and has its log up to the line `end`.
    ///
    /// The channel closes behind the job's terminal state, when the job is removed, and when the store stays away.
    pub(super) fn join(&self, job: Arc<Job>, end: u64) -> watch::Receiver<Seen> {
        let mut watched = self.shared.lock();
        if let Some(known) = watched.get(&job.id) {
            known.has_newcomers.store(true, Ordering::SeqCst);
            return known.seen.subscribe();
        }
        let id = job.id;
        let (seen, listener) =
            watch::channel(Seen { job, tail: Tail { after: end, lines: Arc::default() }, looked_at: Instant::now() });
        let new = Arc::new(Watched { job: id, seen, hint: Notify::new(), has_newcomers: AtomicBool::new(false) });
        watched.insert(id, Arc::clone(&new));
        let watcher = Watcher { shared: Arc::clone(&self.shared), watched: new };
        // When it fails, the streams end, and their clients come again.
        self.shared.loops.start_once("job-watcher", |beat| watcher.run(beat), || {}).detach();
        listener
    }

    /// Has a job looked at at once, if anybody listens to it.
    pub(super) fn hint(&self, job: JobId) {
        if let Some(watched) = self.shared.lock().get(&job) {
            watched.hint.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that watches one job.
struct Watcher {
    shared: Arc<Shared>,
    watched: Arc<Watched>,
}

impl Watcher {
    /// Looks until the job has ended, is removed, or nobody listens any more.
    async fn run(self, beat: Beat) {
        loop {
            beat.within(PATIENCE);
            match self.look().await {
                Ok(job) if job.state.is_terminal() => break,
                Ok(_) => {}
                Err(StoreError::UnknownJob(_)) => break,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), job = %self.watched.job, "a job cannot be watched; its streams end");
                    break;
                }
            }
            tokio::select! {
                () = self.rest() => {}
                () = self.watched.seen.closed() => if self.leave() { break },
            }
        }
        beat.finish();
    }

    /// Looks once: at the job and then at its log, because what is written before a job ends is in the log by then.
    async fn look(&self) -> Result<Arc<Job>, StoreError> {
        let has_newcomers = self.watched.has_newcomers.swap(false, Ordering::SeqCst);
        let looked_at = Instant::now();
        let job = Arc::new(self.shared.reads.job(self.watched.job).await?);
        loop {
            let after = self.watched.seen.borrow().tail.end();
            let lines = self.shared.reads.log(self.watched.job, after).await?;
            let is_last = lines.len() < PAGE;
            self.tell(is_last.then_some((&job, looked_at)), Tail { after, lines: lines.into() }, has_newcomers && is_last);
            if is_last {
                return Ok(job);
            }
        }
    }

    /// Tells everybody, if there is anything new or there are newcomers: of lines as they are read, of the job once all of them are.
    fn tell(&self, job: Option<(&Arc<Job>, Instant)>, tail: Tail, has_newcomers: bool) {
        self.watched.seen.send_if_modified(|seen| {
            let is_news = job.is_some_and(|(job, _)| **job != *seen.job) || !tail.lines.is_empty();
            if let Some((job, looked_at)) = job {
                seen.job = Arc::clone(job);
                seen.looked_at = looked_at;
            }
            if is_news {
                seen.tail = tail;
            }
            is_news || has_newcomers
        });
    }

    async fn rest(&self) {
        tokio::time::sleep(REST).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY.mul_f64(rand::random_range(0.75..=1.25)) - REST) => {}
            () = self.watched.hint.notified() => {}
        }
    }

    /// Whether nobody listens any more; then nobody can join this watcher from now on.
    fn leave(&self) -> bool {
        let mut watched = self.shared.lock();
        let is_left = self.watched.seen.receiver_count() == 0;
        if is_left {
            watched.remove(&self.watched.job);
        }
        is_left
    }
}

impl Drop for Watcher {
    /// However the task ends, so that nobody joins a watcher that does not look.
    fn drop(&mut self) {
        let mut watched = self.shared.lock();
        if watched.get(&self.watched.job).is_some_and(|known| Arc::ptr_eq(known, &self.watched)) {
            watched.remove(&self.watched.job);
        }
    }
}

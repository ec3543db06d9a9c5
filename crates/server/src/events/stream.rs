//! Telling one client of a job.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunnage_store::StoreError;
use dunnage_types::{Job, JobId, LogLine};
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::reads::PAGE;
use super::watcher::{Tail, Watchers};
use super::{Place, Position, frame};
use crate::access::Sight;
use crate::problem::chain;
use crate::routes::StatusBody;

/// The longest silence on a stream.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How many pieces, each a page of lines at most, may wait for the client besides the one being written. A client that reads slowly
/// finds the rest in the store.
const WAITING: usize = 1;

/// The bytes of a stream. A task makes them; it ends when they are dropped, and as soon as it is `over`.
pub(super) fn open<Over: Future<Output = ()> + Send + 'static>(
    watchers: Watchers,
    job: Job,
    position: Position,
    sight: Sight,
    place: Place,
    over: Over,
) -> impl Stream<Item = Result<Bytes, Infallible>> + use<Over> {
    let (client, pieces) = mpsc::channel(WAITING);
    let teller = Teller { watchers, client, text: frame::RETRY.to_owned(), job: job.id, position, sight, told: None };
    tokio::spawn(teller.run(job, over));
    stream::unfold((pieces, place), |(mut pieces, place)| async move {
        let piece = match tokio::time::timeout(HEARTBEAT_EVERY, pieces.recv()).await {
            Ok(piece) => piece?,
            Err(_) => Bytes::from_static(frame::HEARTBEAT.as_bytes()),
        };
        Some((Ok(piece), (pieces, place)))
    })
}

/// The task that tells one client.
struct Teller {
    watchers: Watchers,
    client: mpsc::Sender<Bytes>,
    /// What has not been handed over yet.
    text: String,
    job: JobId,
    position: Position,
    /// How much the client may see.
    sight: Sight,
    /// The job as the client knows it.
    told: Option<Arc<Job>>,
}

impl Teller {
    async fn run(self, job: Job, over: impl Future<Output = ()>) {
        let client = self.client.clone();
        tokio::select! {
            biased;
            () = over => {}
            () = client.closed() => {}
            told = self.tell(Arc::new(job)) => match told {
                Ok(()) | Err(StoreError::UnknownJob(_)) => {}
                Err(error) => tracing::warn!(error = %chain(&error), "a stream of events ends early; its client may come again"),
            },
        }
    }

    /// Tells everything up to the terminal state, as long as somebody watches the job.
    async fn tell(mut self, job: Arc<Job>) -> Result<(), StoreError> {
        let read_at = Instant::now();
        self.tell_of(&job, None).await?;
        if job.state.is_terminal() {
            return Ok(());
        }
        let mut watched = self.watchers.join(job, self.position.line);
        loop {
            let seen = watched.borrow_and_update().clone();
            let has_ended = seen.job.state.is_terminal();
            // Others may have been told of the job as it was before this client asked. Its end is final, however old.
            if has_ended || seen.looked_at > read_at {
                self.tell_of(&seen.job, Some(&seen.tail)).await?;
            }
            if has_ended || watched.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Tells what is new about a job. Its terminal state comes last of all, other states come before what happened in them.
    async fn tell_of(&mut self, job: &Arc<Job>, tail: Option<&Tail>) -> Result<(), StoreError> {
        let before = self.told.replace(Arc::clone(job));
        let before = before.as_deref();
        let changed = before.is_none_or(|before| differ(before, job));
        let has_ended = job.state.is_terminal();
        if changed && !has_ended {
            self.state(job);
        }
        if before.is_none_or(|before| before.progress != job.progress) {
            job.progress.iter().for_each(|progress| frame::append(&mut self.text, self.position, "progress", progress));
        }
        self.hand_over().await;
        match tail {
            Some(tail) => self.log_up_to(tail).await?,
            None => self.log_up_to_now().await?,
        }
        if changed && has_ended {
            self.state(job);
        }
        self.hand_over().await;
        Ok(())
    }

    fn state(&mut self, job: &Job) {
        self.position.state = job.state;
        frame::append(&mut self.text, self.position, "state", &StatusBody::seen(job.clone(), self.sight));
    }

    /// Tells the lines up to the end of `tail`. What comes before it is read, by this client that is slower than others.
    async fn log_up_to(&mut self, tail: &Tail) -> Result<(), StoreError> {
        while self.position.line < tail.end() {
            match tail.behind(self.position.line) {
                Some(lines) => self.lines(lines).await,
                None if self.page().await? == 0 => return Ok(()),
                None => {}
            }
        }
        Ok(())
    }

    /// Tells all lines there are.
    async fn log_up_to_now(&mut self) -> Result<(), StoreError> {
        while self.page().await? == PAGE {}
        Ok(())
    }

    /// Tells a page of lines; how many it had.
    async fn page(&mut self) -> Result<usize, StoreError> {
        let lines = self.watchers.reads().log(self.job, self.position.line).await?;
        self.lines(&lines).await;
        Ok(lines.len())
    }

    async fn lines(&mut self, lines: &[LogLine]) {
        for line in lines {
            self.position.line = line.sequence;
            if self.sight.shows(line) {
                frame::append(&mut self.text, self.position, "log", line);
            }
        }
        self.hand_over().await;
    }

    /// Waits until the client takes what there is. If it is gone, that ends the task, and not this.
    async fn hand_over(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            let _ = self.client.send(text.into()).await;
        }
    }
}

/// Whether clients are told of the difference between two looks at a job by an event `state`.
fn differ(before: &Job, now: &Job) -> bool {
    let told = |job: &Job| (job.state, job.attempt, job.cancel_requested);
    told(before) != told(now) || before.error != now.error || before.result != now.result
}

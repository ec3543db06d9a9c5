//! Writes an attempt's lines and progress to the database, many at a time.

use std::sync::Arc;

use dunnage_store::{Lease, Store, StoreError};
use dunnage_types::{LogLevel, LogSource, NewLogLine, Progress, Timestamp};
use dunnage_workers::Line;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::events::Events;
use crate::problem::chain;

/// How many records are written in one transaction at most.
const BATCH: usize = 500;

/// Something worth keeping about an attempt.
pub(crate) enum Record {
    Line(Line),
    Progress(Progress),
}

/// The task that writes them.
///
/// Its queue has no bound of its own: whoever fills it must not wait for the database, or the script would. It is emptied as fast as
/// the database takes 500 records in a transaction, and grows only while that is away, at most for the length of a lease.
pub(crate) struct Recorder {
    sender: mpsc::UnboundedSender<Record>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub(crate) fn start(store: Arc<dyn Store>, events: Events, lease: Lease, max_lines: usize) -> Self {
        let (sender, records) = mpsc::unbounded_channel();
        let task = tokio::spawn(Writer { store, events, lease, max_lines, lines: 0 }.run(records));
        Self { sender, task }
    }

    pub(crate) fn sender(&self) -> mpsc::UnboundedSender<Record> {
        self.sender.clone()
    }

    /// Waits until everything has been written. Every other sender must be gone.
    pub(crate) async fn finish(self) {
        drop(self.sender);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the log of a job could not be written");
        }
    }
}

struct Writer {
    store: Arc<dyn Store>,
    events: Events,
    lease: Lease,
    max_lines: usize,
    lines: usize,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::UnboundedReceiver<Record>) {
        let mut batch = Vec::with_capacity(BATCH);
        while records.recv_many(&mut batch, BATCH).await > 0 {
            let (lines, progress) = self.sort(batch.drain(..));
            if let Err(error) = self.write(&lines, progress).await {
                // A lost lease is noticed, and said, by whoever ends the attempt.
                if !matches!(error, StoreError::Superseded(_)) {
                    tracing::error!(error = %chain(&error), job = %self.lease.job, lines = lines.len(), "log lines were lost");
                }
            }
            self.events.hint(self.lease.job);
        }
    }

    /// Splits records into lines, as far as the limit allows, and the last progress.
    fn sort(&mut self, records: impl Iterator<Item = Record>) -> (Vec<NewLogLine>, Option<Progress>) {
        let mut lines = Vec::new();
        let mut progress = None;
        for record in records {
            match record {
                Record::Progress(newest) => progress = Some(newest),
                Record::Line(line) => lines.extend(self.admit(line)),
            }
        }
        (lines, progress)
    }

    /// The line, or a last word instead of the first one too many.
    fn admit(&mut self, line: Line) -> Option<NewLogLine> {
        let at = Timestamp::now();
        self.lines += 1;
        if self.lines <= self.max_lines || line.source == LogSource::Server {
            return Some(NewLogLine { at, source: line.source, level: line.level, message: line.message });
        }
        let message = format!("more than {} lines; the rest is not kept (`--max-log-lines`)", self.max_lines);
        let first_too_many = self.lines == self.max_lines + 1;
        first_too_many.then_some(NewLogLine { at, source: LogSource::Server, level: LogLevel::Warning, message })
    }

    async fn write(&self, lines: &[NewLogLine], progress: Option<Progress>) -> Result<(), StoreError> {
        if !lines.is_empty() {
            self.store.append_log(self.lease, lines).await?;
        }
        if let Some(progress) = progress {
            self.store.progress(self.lease, &progress).await?;
        }
        Ok(())
    }
}

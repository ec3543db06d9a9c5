//! A job in memory, to be listened to in tests.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use dunnage_loops::Loops;
use dunnage_store::StoreError;
use dunnage_types::{Job, JobId, JobKind, JobState, JsonObject, LogLevel, LogLine, LogSource, Timestamp};
use futures_util::{Stream, StreamExt};
use tokio::sync::watch;

use super::reads::Source;
use super::{Events, Position, frame};
use crate::access::Sight;

/// A store with one job. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fake {
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    job: Option<Job>,
    lines: Vec<LogLine>,
    is_away: bool,
    reads: u32,
}

impl Fake {
    /// With a job that runs.
    pub(super) fn running() -> Self {
        let job = Job {
            id: JobId::random(),
            kind: JobKind::Train,
            state: JobState::Running,
            files: Vec::new(),
            params: JsonObject::new(),
            key: None,
            attempt: 1,
            max_attempts: 3,
            progress: None,
            error: None,
            result: None,
            version: None,
            cancel_requested: false,
            callback: None,
            output_uri: None,
            created_at: Timestamp(0),
            started_at: Some(Timestamp(0)),
            finished_at: None,
        };
        Self { kept: Arc::new(Mutex::new(Kept { job: Some(job), lines: Vec::new(), is_away: false, reads: 0 })) }
    }

    pub(super) fn events(&self, max_streams: usize) -> Events {
        Events::of(Box::new(self.clone()), max_streams, Loops::default())
    }

    pub(super) fn job(&self) -> Job {
        self.lock().job.clone().expect("the job is there")
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Job)) {
        change(self.lock().job.as_mut().expect("the job is there"));
    }

    /// Ends the job.
    pub(super) fn end(&self) {
        self.change(|job| job.state = JobState::Done);
    }

    pub(super) fn remove(&self) {
        let mut kept = self.lock();
        kept.job = None;
        kept.lines.clear();
    }

    /// Appends lines to the log.
    pub(super) fn say(&self, lines: usize) {
        let mut kept = self.lock();
        for _ in 0..lines {
            let sequence = kept.lines.len() as u64 + 1;
            let (source, level, message) = (LogSource::Stdout, LogLevel::Info, format!("line {sequence}"));
            kept.lines.push(LogLine { sequence, at: Timestamp(0), attempt: 1, source, level, message });
        }
    }

    pub(super) fn set_away(&self, is_away: bool) {
        self.lock().is_away = is_away;
    }

    /// How often it has been read.
    pub(super) fn reads(&self) -> u32 {
        self.lock().reads
    }

    /// Listens from a position to the job as it is now.
    pub(super) fn listen(&self, events: &Events, position: Position, stopping: &watch::Sender<bool>) -> Listener {
        let place = events.place().expect("there is a place");
        let mut stopping = stopping.subscribe();
        let over = async move {
            stopping.wait_for(|stopping| *stopping).await.expect("who stops outlives the stream");
        };
        Listener { stream: Box::pin(events.stream(self.job(), position, Sight::Reasons, place, over)) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder panics")
    }

    fn read(&self) -> Result<MutexGuard<'_, Kept>, StoreError> {
        let mut kept = self.lock();
        kept.reads += 1;
        if kept.is_away { Err(StoreError::Unavailable("away".into())) } else { Ok(kept) }
    }
}

#[async_trait]
impl Source for Fake {
    async fn job(&self, _: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.read()?.job.clone())
    }

    async fn log(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        let kept = self.read()?;
        if kept.job.is_none() {
            return Err(StoreError::UnknownJob(job));
        }
        let behind = kept.lines.iter().filter(|line| line.sequence > after);
        Ok(behind.take(limit as usize).cloned().collect())
    }
}

/// A client.
pub(super) struct Listener {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, std::convert::Infallible>>>>,
}

impl Listener {
    /// The next piece, whatever it is; `None` at the end.
    pub(super) async fn piece(&mut self) -> Option<String> {
        let Ok(piece) = self.stream.next().await?;
        Some(String::from_utf8(piece.to_vec()).expect("events are UTF-8"))
    }

    /// Every event that is still to come, as `id event`.
    pub(super) async fn rest(mut self) -> Vec<String> {
        let mut text = String::new();
        while let Some(piece) = self.piece().await {
            text.push_str(&piece);
        }
        events(&text)
    }
}

/// The events of a text, each as `id event`.
pub(super) fn events(text: &str) -> Vec<String> {
    let frames = text.split_inclusive("\n\n").filter(|frame| ![frame::RETRY, frame::HEARTBEAT].contains(frame));
    let event = |frame: &str| {
        let mut lines = frame.lines();
        let id = lines.next().and_then(|line| line.strip_prefix("id: ")).expect("an id");
        let name = lines.next().and_then(|line| line.strip_prefix("event: ")).expect("a name");
        assert!(lines.next().is_some_and(|line| line.starts_with("data: {")), "{frame}");
        format!("{id} {name}")
    };
    frames.map(event).collect()
}

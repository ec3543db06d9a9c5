//! The worker that is loaded while the one it will replace goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::worker::{StartError, Worker};

/// How long a worker goes on whose replacement could not be started, before another one is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// At most one replacement at a time, and everything that still ends because of one.
#[derive(Default)]
pub(crate) struct Succession {
    starting: JoinSet<Result<Worker, StartError>>,
    /// Only one worker of the pool is replaced at a time: the others answer, and the machine need not hold all of them twice.
    turn: Option<OwnedSemaphorePermit>,
    not_before: Option<Instant>,
    /// Set when the replacement is loaded, or cannot be.
    loaded: Arc<AtomicBool>,
    ending: JoinSet<()>,
}

impl Succession {
    /// Whether a replacement may be started now.
    pub(crate) fn is_due(&self) -> bool {
        self.starting.is_empty() && self.not_before.is_none_or(|instant| instant <= Instant::now())
    }

    /// Whether a replacement is being started.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.starting.is_empty()
    }

    /// Whether [`Succession::ready`] has something to say at once. Costs next to nothing.
    pub(crate) fn is_loaded(&self) -> bool {
        self.is_under_way() && self.loaded.load(Ordering::Acquire)
    }

    pub(crate) fn begin(
        &mut self,
        turn: OwnedSemaphorePermit,
        start: impl Future<Output = Result<Worker, StartError>> + Send + 'static,
    ) {
        self.turn = Some(turn);
        self.loaded = Arc::default();
        let loaded = Arc::clone(&self.loaded);
        self.starting.spawn(async move {
            let started = start.await;
            loaded.store(true, Ordering::Release);
            started
        });
    }

    /// The replacement; for ever if there is none. May be dropped and called again.
    pub(crate) async fn ready(&mut self) -> Result<Worker, StartError> {
        match self.starting.join_next().await {
            Some(Ok(started)) => started,
            // It was stopped, or panicked, which has been reported.
            Some(Err(_)) => {
                self.postpone();
                std::future::pending().await
            }
            None => std::future::pending().await,
        }
    }

    /// Lets the worker go that has been replaced. The turn passes on when it has ended.
    pub(crate) fn let_go(&mut self, replaced: Worker) {
        let turn = self.turn.take();
        self.ending.spawn(async move {
            replaced.stop().await;
            drop(turn);
        });
    }

    /// Gives the turn up for a while: there is no replacement to be had.
    pub(crate) fn postpone(&mut self) {
        self.turn = None;
        self.not_before = Some(Instant::now() + PATIENCE);
    }

    /// Passes the turn on: the replacement has taken the place of a worker that was lost.
    pub(crate) fn taken(&mut self) {
        self.turn = None;
    }

    /// Gives a replacement up that is not loaded yet, and waits until everything has ended.
    pub(crate) async fn end(&mut self) {
        self.starting.shutdown().await;
        while self.ending.join_next().await.is_some() {}
    }
}

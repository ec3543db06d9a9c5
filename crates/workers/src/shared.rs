//! What the pool's handles and its slots share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dunnage_loops::Looping;
use dunnage_types::{ServiceName, WorkerId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::admission::Refusals;
use crate::batch::{Failed, Work};
use crate::exit::Lost;
use crate::generation::{Generation, Unavailable};
use crate::host::Host;
use crate::launch::Launcher;
use crate::losses::Losses;
use crate::pace::Pace;
use crate::program::Runtime;
use crate::queue::Queue;
use crate::wear::Recycling;
use crate::worker::StartError;

/// How the serving workers are run.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// The service's name.
    pub service: ServiceName,
    /// The script's absolute path.
    pub script: PathBuf,
    /// What runs it.
    pub runtime: Runtime,
    /// What scripts see as `ctx.device`.
    pub device: String,
    /// How many workers there are.
    pub workers: usize,
    /// The most requests in one batch.
    pub max_batch: usize,
    /// How long a request may wait for others to batch with.
    pub max_wait: Duration,
    /// How long a call may take before its worker is killed.
    pub timeout: Duration,
    /// How many requests may wait for a worker.
    pub max_queue: usize,
    /// For how long a request may be expected to wait for a worker; zero for as long as its deadline allows.
    pub max_queue_wait: Duration,
    /// How long the script may take to load.
    pub load_timeout: Duration,
    /// After what a worker is replaced though it has not died.
    pub recycling: Recycling,
    /// The longest vector that is passed on, in bytes of its numbers.
    pub max_output_bytes: usize,
    /// The runtimes on which workers are fed, in turn: best those on which requests are answered. They have to outlive the pool. Where there
    /// are none, it is the one that the pool is started on.
    pub event_loops: Vec<Handle>,
}

/// What the pool's handles and its slots share.
pub(crate) struct Shared {
    pub(crate) settings: PoolSettings,
    pub(crate) launcher: Launcher,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) queue: Queue<Work>,
    pub(crate) pace: Pace,
    pub(crate) refusals: Refusals,
    pub(crate) serving: RwLock<Arc<Generation>>,
    pub(crate) slots: tokio::sync::Mutex<Vec<Looping>>,
    /// Whether slots have been started.
    pub(crate) begun: AtomicBool,
    pub(crate) workers: AtomicU32,
    /// How many slots have been started.
    pub(crate) started: AtomicUsize,
    pub(crate) losses: Losses,
    /// How many of them were serving.
    pub(crate) serving_losses: AtomicU64,
    /// Held while a worker is replaced that has had its day.
    pub(crate) replacements: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn next_worker(&self) -> WorkerId {
        WorkerId(self.workers.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Where the next slot goes on.
    pub(crate) fn next_event_loop(&self) -> Handle {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let event_loops = &self.settings.event_loops;
        number.checked_rem(event_loops.len()).map_or_else(Handle::current, |place| event_loops[place].clone())
    }

    pub(crate) fn note_loss(&self, lost: &Lost) {
        let reason = lost.exit.reason();
        self.losses.note(reason);
        self.serving_losses.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%reason, exit = %lost.exit, last_lines = ?lost.last_lines, "a serving worker was lost; starting another");
    }

    pub(crate) fn note_failed_start(&self, error: &StartError) {
        let traceback = match error {
            StartError::Script(error) => error.traceback.as_deref(),
            _ => None,
        };
        let reason = error.reason();
        self.losses.note(reason);
        tracing::error!(%reason, error = %error, traceback, "a serving worker could not be started; trying again");
    }

    /// Answers everybody who waits for a worker that there will be none soon.
    pub(crate) fn refuse_waiting(&self, unavailable: &Unavailable) {
        for work in self.queue.drain() {
            // A client that has gone does not hear it; a job's end is noticed by its dropped sender.
            if let Work::Output(pending) = work {
                let _ = pending.respond.send(Err(Failed::NoWorker(unavailable.clone())));
            }
        }
    }

    pub(crate) fn serving(&self) -> Arc<Generation> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `generation` the serving one, and returns the one it replaces.
    pub(crate) fn serve_with(&self, generation: Arc<Generation>) -> Arc<Generation> {
        std::mem::replace(&mut self.serving.write().unwrap_or_else(PoisonError::into_inner), generation)
    }
}

//! What every request and every job of a server shares.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dunnage_files::Files;
use dunnage_store::Store;
use dunnage_types::{JobId, ReplicaId};
use dunnage_workers::{Interrupt, Launcher, Pool, Runtime};
use tokio::sync::watch;

use crate::artifacts::Artifacts;
use crate::config::Config;
use crate::metrics::Metrics;

/// A running server, without its sockets.
pub(crate) struct App {
    pub(crate) config: Config,
    /// The script's absolute path.
    pub(crate) script: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) launcher: Launcher,
    pub(crate) replica: ReplicaId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) files: Files,
    pub(crate) artifacts: Artifacts,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
    /// Held while a version takes over, so that two do not do so at once.
    pub(crate) taking_over: tokio::sync::Mutex<()>,
    /// Rises with each reload of the script, so that idle job workers are replaced too.
    pub(crate) reloads: AtomicU64,
    pub(crate) running: Running,
    stopping: AtomicBool,
}

/// The parts from which an [`App`] is made.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) script: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) launcher: Launcher,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) files: Files,
    pub(crate) artifacts: Artifacts,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, script, runtime, launcher, store, files, artifacts, pool, metrics } = parts;
        Self {
            config,
            script,
            runtime,
            launcher,
            replica: ReplicaId::random(),
            store,
            files,
            artifacts,
            pool,
            metrics,
            taking_over: tokio::sync::Mutex::new(()),
            reloads: AtomicU64::new(0),
            running: Running::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Whether the server has been told to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

/// The attempts that run in this process, so that they can be interrupted at once.
#[derive(Default)]
pub(crate) struct Running {
    jobs: Mutex<HashMap<JobId, watch::Sender<Interrupt>>>,
}

impl Running {
    pub(crate) fn add(&self, job: JobId, interrupt: watch::Sender<Interrupt>) {
        self.lock().insert(job, interrupt);
    }

    pub(crate) fn remove(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Interrupts an attempt; nothing happens if the job does not run here.
    pub(crate) fn interrupt(&self, job: JobId, interrupt: Interrupt) {
        if let Some(sender) = self.lock().get(&job) {
            sender.send_replace(interrupt);
        }
    }

    pub(crate) fn interrupt_all(&self, interrupt: Interrupt) {
        for sender in self.lock().values() {
            sender.send_replace(interrupt);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, watch::Sender<Interrupt>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

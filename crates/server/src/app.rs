//! What every request and every job of a server shares.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dunnage_files::Files;
use dunnage_loops::{Beat, Looping, Loops};
use dunnage_store::{Backlog, Lease, Store};
use dunnage_types::{JobId, ReplicaId};
use dunnage_workers::{Interrupt, Launcher, Pool, Runtime};
use tokio::sync::watch;

use crate::access::Access;
use crate::artifacts::Artifacts;
use crate::config::Config;
use crate::events::Events;
use crate::fleet::PresenceBoard;
use crate::http::{self, admission::Admission};
use crate::jobs::Stations;
use crate::metrics::Metrics;
use crate::problem::chain;
use crate::signals::gpu::Gpus;
use crate::state::CachedState;

/// A running server, without its sockets.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) access: Access,
    pub(crate) loops: Loops,
    /// Room for connections.
    pub(crate) admission: Admission,
    /// The script's absolute path.
    pub(crate) script: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) launcher: Launcher,
    pub(crate) replica: ReplicaId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: Arc<CachedState>,
    pub(crate) files: Files,
    pub(crate) artifacts: Artifacts,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
    pub(crate) gpus: Gpus,
    pub(crate) events: Events,
    /// Held while a version takes over, so that two do not do so at once.
    pub(crate) taking_over: tokio::sync::Mutex<()>,
    /// Rises with each reload of the script, so that idle job workers are replaced too.
    pub(crate) reloads: AtomicU64,
    pub(crate) running: Running,
    /// Where jobs are run.
    pub(crate) stations: Stations,
    /// What the other replicas are to be told of this one.
    pub(crate) presence: PresenceBoard,
    stopping: watch::Sender<bool>,
}

/// The parts from which an [`App`] is made.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) access: Access,
    pub(crate) loops: Loops,
    pub(crate) script: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) launcher: Launcher,
    pub(crate) replica: ReplicaId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: Arc<CachedState>,
    pub(crate) files: Files,
    pub(crate) artifacts: Artifacts,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, access, loops, script, runtime, launcher, replica, store, state, files, artifacts, pool, metrics } =
            parts;
        let admission = http::admission(&config.http.connections);
        let events = Events::new(Arc::clone(&store), config.http.max_streams, loops.clone());
        Self {
            config,
            access,
            loops,
            admission,
            script,
            runtime,
            launcher,
            replica,
            store,
            state,
            files,
            artifacts,
            pool,
            metrics,
            gpus: Gpus::default(),
            events,
            taking_over: tokio::sync::Mutex::new(()),
            reloads: AtomicU64::new(0),
            running: Running::default(),
            stations: Stations::default(),
            presence: PresenceBoard::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// Starts a loop that lasts as long as the server, and is started again when it fails.
    pub(crate) fn start_loop<F, Fut>(self: &Arc<Self>, name: &'static str, run: F) -> Looping
    where
        F: Fn(Arc<Self>, Beat) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let app = Arc::clone(self);
        self.loops.start(name, move |beat| run(Arc::clone(&app), beat))
    }

    /// The jobs of the service that wait and run; `None` while the database is away, of which the log is told.
    pub(crate) async fn backlog(&self) -> Option<Backlog> {
        let backlog = self.store.backlog().await;
        backlog.inspect_err(|error| tracing::warn!(error = %chain(error), "the backlog cannot be measured")).ok()
    }

    /// Whether the server has been told to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Ends when the server is told to end, or is gone.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // An error means that it is gone.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    pub(crate) fn begin_stopping(&self) {
        self.stopping.send_replace(true);
    }
}

/// The attempts that run in this process, so that they can be interrupted at once.
#[derive(Default)]
pub(crate) struct Running {
    attempts: Mutex<HashMap<Lease, watch::Sender<Interrupt>>>,
    busy: watch::Sender<bool>,
}

impl Running {
    pub(crate) fn add(&self, lease: Lease, interrupt: watch::Sender<Interrupt>) {
        let mut attempts = self.lock();
        attempts.insert(lease, interrupt);
        self.tell_busy(&attempts);
    }

    pub(crate) fn remove(&self, lease: Lease) {
        let mut attempts = self.lock();
        attempts.remove(&lease);
        self.tell_busy(&attempts);
    }

    /// Whether any attempt runs, now and later.
    pub(crate) fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    fn tell_busy(&self, attempts: &HashMap<Lease, watch::Sender<Interrupt>>) {
        let busy = !attempts.is_empty();
        self.busy.send_if_modified(|told| std::mem::replace(told, busy) != busy);
    }

    /// Whether so many attempts run that no further job is taken up.
    pub(crate) fn is_full(&self, slots: usize) -> bool {
        self.lock().len() >= slots
    }

    /// Asks the attempts at a job that run here to stop; nothing happens if there is none.
    pub(crate) fn cancel(&self, job: JobId) {
        let attempts = self.lock();
        attempts.iter().filter(|(lease, _)| lease.job == job).for_each(|(_, sender)| escalate(sender, Interrupt::Cancel));
    }

    /// Kills every attempt.
    pub(crate) fn kill_all(&self) {
        self.lock().values().for_each(|sender| escalate(sender, Interrupt::Kill));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, watch::Sender<Interrupt>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Interrupts an attempt. An interruption is never taken back.
pub(crate) fn escalate(interrupt: &watch::Sender<Interrupt>, wanted: Interrupt) {
    interrupt.send_if_modified(|current| {
        let escalates = *current != wanted && *current != Interrupt::Kill;
        if escalates {
            *current = wanted;
        }
        escalates
    });
}

/// Ends when the attempt is to be killed.
pub(crate) async fn killed(mut interrupts: watch::Receiver<Interrupt>) {
    if interrupts.wait_for(|wanted| *wanted == Interrupt::Kill).await.is_err() {
        // Nobody is left who could want it.
        std::future::pending::<()>().await;
    }
}

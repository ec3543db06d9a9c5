//! The serving workers: a queue in front of them, and the swap of one version for another.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use dunnage_loops::Looping;
use dunnage_protocol::{Artifact, CallError, Functions, Outcome, Request, Run};
use dunnage_types::{Vector, Version, WorkerId};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::admission::{Place, Refusal, RefusalCause, Refusals};
use crate::batch::{Answered, Failed, Hold, Pending, PendingJob, Work};
use crate::exit::{Lost, Reason};
use crate::generation::{Generation, Phase, Standby, Unavailable};
use crate::host::Host;
use crate::interrupt::Interrupt;
use crate::launch::Launcher;
use crate::losses::Losses;
use crate::pace::Pace;
use crate::queue::Queue;
use crate::shared::{PoolSettings, Shared};
use crate::slot;

/// The serving workers of a service. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// An answer from the serving workers.
#[derive(Debug, Clone)]
pub struct Served {
    /// The vector.
    pub vector: Vector<Bytes>,
    /// The version that answered; `None` while nothing has been published.
    pub version: Option<Version>,
    /// How many requests were answered together.
    pub batch_size: usize,
    /// How long the request waited for a worker.
    pub waited: Duration,
}

/// How the serving workers are doing.
#[derive(Debug, Clone)]
pub struct PoolStatus {
    /// How many workers are loaded.
    pub ready: usize,
    /// How many there should be.
    pub wanted: usize,
    /// Requests that wait for a worker.
    pub queued: usize,
    /// For how long the serving workers have been at work since the server started, added up.
    pub busy: Duration,
    /// The version being served.
    pub version: Option<Version>,
    /// The script's functions, once a worker has loaded it.
    pub functions: Option<Functions>,
    /// Why the newest start failed, unless a worker has been loaded since.
    pub last_error: Option<Unavailable>,
    /// How the worker ended that was lost last.
    pub last_loss: Option<String>,
    /// How many serving workers have died since the server started.
    pub losses: u64,
    /// How many workers have died since then, and how many could not be started, by reason; those noted with
    /// [`Pool::note_loss`] too.
    pub losses_by_reason: Vec<(Reason, u64)>,
    /// How many requests were refused because too many waited.
    pub refusals: Vec<(RefusalCause, u64)>,
}

impl Pool {
    /// Starts the workers, on `artifact` if there is an active version. They are not waited for: requests may queue at once.
    #[must_use]
    pub fn start(settings: PoolSettings, launcher: Launcher, host: Arc<dyn Host>, artifact: Option<Artifact>) -> Self {
        let pool = Self::new(settings, launcher, host);
        let generation = Generation::new(artifact, Phase::Serving);
        let mut slots = pool.shared.slots.try_lock().expect("nobody else has seen the pool yet");
        pool.start_slots(&mut slots, &generation);
        drop(slots);
        pool.shared.serve_with(generation);
        pool
    }

    /// A pool that has yet to be told what to serve. Requests queue until it is, or are refused from [`Pool::refuse`] on.
    #[must_use]
    pub fn new(settings: PoolSettings, launcher: Launcher, host: Arc<dyn Host>) -> Self {
        let queue = Queue::new(settings.max_queue);
        let shared = Arc::new(Shared {
            settings,
            launcher,
            host,
            queue,
            pace: Pace::default(),
            refusals: Refusals::default(),
            serving: RwLock::new(Generation::new(None, Phase::Serving)),
            slots: tokio::sync::Mutex::default(),
            begun: AtomicBool::new(false),
            workers: AtomicU32::new(0),
            started: AtomicUsize::new(0),
            losses: Losses::default(),
            serving_losses: AtomicU64::new(0),
            replacements: Arc::new(Semaphore::new(1)),
        });
        Self { shared }
    }

    /// Starts the workers of a [new](Pool::new) pool on `artifact`, as [`Pool::start`] does.
    pub async fn serve(&self, artifact: Artifact) {
        let generation = Generation::new(Some(artifact), Phase::Serving);
        self.start_slots(&mut *self.shared.slots.lock().await, &generation);
        self.shared.serve_with(generation).enter(Phase::Retired);
    }

    /// Whether any worker has been started, or is about to be.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// Refuses requests for `reason` for as long as no worker has been started. Nothing happens if one has.
    pub fn refuse(&self, reason: &str) {
        if !self.has_begun() {
            let unavailable = Unavailable { reason: Reason::LoadFailed, detail: reason.to_owned() };
            self.shared.refuse_waiting(&unavailable);
            self.shared.serving().worker_failed(unavailable);
        }
    }

    /// Refuses what cannot be answered by `deadline`, so that it costs nothing more. Whoever passes has no place yet, and may still be
    /// refused by [`Pool::output`].
    ///
    /// # Errors
    ///
    /// [`OutputError::Refused`] or [`OutputError::NoWorker`], at once.
    pub fn admit(&self, deadline: Instant) -> Result<(), OutputError> {
        self.refuse_if_hopeless()?;
        Ok(self.shared.admit(deadline)?)
    }

    /// Has a worker answer `request`. `hold` is dropped when the answer is there, or when no worker will look at the request any more:
    /// a client that does not wait for its answer does not take its files away from the worker that reads them.
    ///
    /// # Errors
    ///
    /// [`OutputError`], within `deadline` at the latest.
    pub async fn output(&self, request: Request, hold: Hold, deadline: Instant) -> Result<Served, OutputError> {
        self.admit(deadline)?;
        let (respond, response) = oneshot::channel();
        let pending = Pending { request, hold, deadline, since: Instant::now(), respond };
        let _place = Place::take(&self.shared.queue, Work::Output(pending)).ok_or_else(|| self.shared.refuse_for_want_of_room())?;
        match tokio::time::timeout_at(deadline, response).await {
            Ok(Ok(Ok(Answered { vector: Ok(vector), version, batch_size, waited }))) => {
                Ok(Served { vector, version, batch_size, waited })
            }
            Ok(Ok(Ok(Answered { vector: Err(error), .. }))) => Err(OutputError::Script(error)),
            Ok(Ok(Err(Failed::Lost(lost)))) => Err(OutputError::Lost(lost)),
            Ok(Ok(Err(Failed::NoWorker(reason)))) => Err(OutputError::NoWorker(reason)),
            Ok(Ok(Err(Failed::ShuttingDown)) | Err(_)) => Err(OutputError::ShuttingDown),
            Ok(Ok(Err(Failed::DeadlinePassed))) | Err(_) => Err(OutputError::DeadlinePassed),
        }
    }

    /// Has a serving worker run a job, between requests; for services without job workers.
    ///
    /// `timeout` counts from when a worker takes it up.
    ///
    /// # Errors
    ///
    /// [`JobLost`].
    pub async fn run(
        &self,
        run: Run,
        timeout: Duration,
        host: Arc<dyn Host>,
        interrupt: watch::Receiver<Interrupt>,
        cancel_grace: Duration,
    ) -> Result<Outcome, JobLost> {
        let (respond, response) = oneshot::channel();
        let taken_up = Arc::new(AtomicBool::new(false));
        let given_up = give_up(interrupt.clone(), Arc::clone(&taken_up));
        let job = PendingJob { run, timeout, host, interrupt, cancel_grace, taken_up, respond };
        let _place = Place::take(&self.shared.queue, Work::Job(Box::new(job))).ok_or(JobLost::NotStarted)?;
        tokio::select! {
            biased;
            outcome = response => Ok(outcome.map_err(|_| JobLost::NotStarted)??),
            () = given_up => Err(JobLost::NotStarted),
        }
    }

    /// Starts a full set of workers on `artifact` and waits until all of them have loaded it. The serving workers go on.
    ///
    /// # Errors
    ///
    /// Why the first of them could not be started; all are then let go.
    pub async fn prepare(&self, artifact: Option<Artifact>) -> Result<Standby, String> {
        let generation = Generation::new(artifact, Phase::Standby);
        let standby = Standby { generation: Arc::clone(&generation), taken_over: false };
        let mut reports = generation.reports();
        self.start_slots(&mut *self.shared.slots.lock().await, &generation);
        let wanted = self.shared.settings.workers;
        let report = reports.wait_for(|report| report.failure.is_some() || report.loaded >= wanted).await;
        match report.map(|report| report.failure.clone()) {
            Ok(None) => Ok(standby),
            Ok(Some(failure)) => Err(failure),
            Err(_) => Err("the workers were let go".to_owned()),
        }
    }

    /// Lets `standby` take over as soon as `commit` has gone well. From before `commit` until after it no worker takes a
    /// request, so that nobody who has seen it committed meets the old version; requests wait meanwhile, and what is being
    /// answered is finished by the old workers.
    ///
    /// # Errors
    ///
    /// That of `commit`, with `standby` to try again; the old workers then go on as if nothing had happened.
    pub async fn take_over<T, E>(
        &self,
        mut standby: Standby,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<T, (Standby, E)> {
        let mut pause = Pause::of(self.shared.serving());
        // Whoever was about to take a request has taken it by then: one that was there before the commit.
        self.shared.queue.settle();
        let committed = match commit.await {
            Ok(committed) => committed,
            Err(error) => return Err((standby, error)),
        };
        standby.taken_over = true;
        let old = self.shared.serve_with(Arc::clone(&standby.generation));
        standby.generation.enter(Phase::Serving);
        pause.over = true;
        old.enter(Phase::Retired);
        Ok(committed)
    }

    /// How the workers are doing.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let generation = self.shared.serving();
        PoolStatus {
            ready: generation.ready(),
            wanted: self.shared.settings.workers,
            queued: self.shared.queue.len(),
            busy: self.shared.pace.busy(),
            version: generation.version(),
            functions: generation.functions(),
            last_error: generation.last_error(),
            last_loss: generation.last_loss(),
            losses: self.shared.serving_losses.load(Ordering::Relaxed),
            losses_by_reason: self.shared.losses.by_reason(),
            refusals: self.shared.refusals.by_cause(),
        }
    }

    /// The script's functions, once a worker has loaded it.
    #[must_use]
    pub fn functions(&self) -> Option<Functions> {
        self.shared.serving().functions()
    }

    /// For how long the serving workers have been at work since the server started, added up.
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.shared.pace.busy()
    }

    /// Counts the loss of a worker that is not of this pool.
    pub fn note_loss(&self, reason: Reason) {
        self.shared.losses.note(reason);
    }

    /// Draws the number of another worker, for one that is not of this pool.
    #[must_use]
    pub fn next_worker(&self) -> WorkerId {
        self.shared.next_worker()
    }

    /// Lets every worker finish what it has and end. Requests that wait are refused.
    pub async fn stop(&self) {
        self.shared.serving().enter(Phase::Retired);
        self.refuse_for_good();
        let mut slots = self.shared.slots.lock().await;
        // From now on one that fails is not started again.
        slots.iter().for_each(Looping::tell_to_end);
        for slot in &mut *slots {
            slot.ended().await;
        }
        // What a worker was lost with that was the last one.
        self.refuse_for_good();
    }

    /// Tells all who wait that the server is about to end.
    fn refuse_for_good(&self) {
        for work in self.shared.queue.drain() {
            // A client that has gone does not hear it; a job's end is noticed by its dropped sender.
            if let Work::Output(pending) = work {
                let _ = pending.respond.send(Err(Failed::ShuttingDown));
            }
        }
    }

    /// Refuses at once what would only wait in vain: no worker is loaded, and the newest start has failed.
    fn refuse_if_hopeless(&self) -> Result<(), OutputError> {
        let generation = self.shared.serving();
        match generation.last_error() {
            Some(reason) if generation.ready() == 0 => Err(OutputError::NoWorker(reason)),
            _ => Ok(()),
        }
    }

    fn start_slots(&self, slots: &mut Vec<Looping>, generation: &Arc<Generation>) {
        self.shared.begun.store(true, Ordering::SeqCst);
        slots.retain(|slot| !slot.has_ended());
        for _ in 0..self.shared.settings.workers {
            let (shared, generation) = (Arc::clone(&self.shared), Arc::clone(generation));
            let run = move |beat| slot::run(Arc::clone(&shared), Arc::clone(&generation), beat);
            let event_loop = self.shared.next_event_loop();
            slots.push(self.shared.launcher.loops().start_on(&event_loop, "serving-slot", run));
        }
    }
}

/// Ends when a job is interrupted that no worker has taken up. Once one has, the worker sees to the interruption.
async fn give_up(mut interrupt: watch::Receiver<Interrupt>, taken_up: Arc<AtomicBool>) {
    let interrupted = interrupt.wait_for(|wanted| *wanted != Interrupt::None).await.is_ok();
    if !interrupted || taken_up.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

/// Keeps a generation from taking requests, until it is dropped or the pause is over for good.
struct Pause {
    generation: Arc<Generation>,
    over: bool,
}

impl Pause {
    fn of(generation: Arc<Generation>) -> Self {
        generation.enter(Phase::Standby);
        Self { generation, over: false }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if !self.over {
            self.generation.enter(Phase::Serving);
        }
    }
}

/// Why a job was not run to its end by a serving worker.
#[derive(Debug, thiserror::Error)]
pub enum JobLost {
    /// Its worker died.
    #[error(transparent)]
    Worker(#[from] Lost),
    /// No worker took it up: the queue was full, or the server is shutting down.
    #[error("no serving worker took the job up")]
    NotStarted,
}

/// Why a request for output was not answered.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The script failed on it.
    #[error("the script failed: {}", .0.message)]
    Script(CallError),
    /// Its worker died.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It was not answered in time.
    #[error("the request was not answered in time")]
    DeadlinePassed,
    /// Too many requests wait already.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No worker is there to answer it, for this reason.
    #[error("no worker is ready: {}", .0.detail)]
    NoWorker(Unavailable),
    /// The server is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
}

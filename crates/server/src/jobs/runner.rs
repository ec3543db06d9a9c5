//! Where a slot's jobs run: in a worker of its own, started on demand, or in the serving workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunnage_files::FileError;
use dunnage_protocol::{Load, Outcome, Role, Run};
use dunnage_types::Version;
use dunnage_workers::{Host, Interrupt, JobLost, Lost, Wear, Worker};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::App;
use crate::host::ServingHost;
use crate::problem::chain;

/// Runs the jobs of one slot.
pub(crate) struct Runner {
    app: Arc<App>,
    workers: Workers,
}

/// Which workers a slot uses.
pub(crate) enum Workers {
    /// Its own, while it has one.
    Own(Option<Box<OwnWorker>>),
    /// Those that answer `/output`, for scripts that keep what they learn in memory.
    Serving,
}

/// A job worker, and what it has loaded.
pub(crate) struct OwnWorker {
    worker: Worker,
    version: Option<Version>,
    reload: u64,
    idle_since: Instant,
    wear: Wear,
}

impl OwnWorker {
    fn fits(&self, version: Option<Version>, reload: u64) -> bool {
        self.version == version && self.reload == reload
    }
}

/// How a run came out.
pub(crate) enum Ran {
    /// The script ended, one way or the other.
    Ended(Outcome),
    /// The worker was lost.
    Lost(Lost),
    /// No worker took the job up.
    NotStarted,
    /// The job's files could not be had.
    Unfetched(FileError),
    /// It was not the job's turn in time, and others may have it.
    SentBack,
}

impl Runner {
    pub(crate) fn new(app: Arc<App>, workers: Workers) -> Self {
        Self { app, workers }
    }

    /// Has a worker run the script with the version `wanted`, or whichever is active by now.
    ///
    /// # Errors
    ///
    /// Why no worker could be started.
    pub(crate) async fn run(
        &mut self,
        run: Run,
        wanted: Option<Version>,
        host: Arc<dyn Host>,
        mut interrupts: watch::Receiver<Interrupt>,
    ) -> Result<Ran, String> {
        let (timeout, grace) = (self.app.config.jobs.timeout, self.app.config.jobs.cancel_grace);
        let Workers::Own(own) = &mut self.workers else {
            return Ok(match self.app.pool.run(run, timeout, host, interrupts, grace).await {
                Ok(outcome) => Ran::Ended(outcome),
                Err(JobLost::Worker(lost)) => Ran::Lost(lost),
                Err(JobLost::NotStarted) => Ran::NotStarted,
            });
        };
        let mut ready = tokio::select! {
            ready = fit_worker(&self.app, own.take(), wanted) => ready?,
            // Loading may take minutes, and nobody waits for this job any more.
            _ = interrupts.wait_for(|wanted| *wanted != Interrupt::None) => return Ok(Ran::NotStarted),
        };
        match ready.worker.run(run, Instant::now() + timeout, &*host, &mut interrupts, grace).await {
            Ok(outcome) => {
                ready.idle_since = Instant::now();
                ready.wear.note(1, matches!(outcome, Outcome::Error(_)));
                keep_unless_worn_out(own, ready).await;
                Ok(Ran::Ended(outcome))
            }
            Err(lost) => {
                self.app.pool.note_loss(lost.exit.reason());
                tracing::warn!(reason = %lost.exit.reason(), exit = %lost.exit, "a job worker was lost");
                Ok(Ran::Lost(lost))
            }
        }
    }

    /// Waits, at most for `wait`, while the idle worker is looked after: it is ended when it has been idle for long.
    pub(crate) async fn rest(&mut self, wait: Duration) {
        let Workers::Own(own) = &mut self.workers else { return tokio::time::sleep(wait).await };
        let Some(ready) = own else { return tokio::time::sleep(wait).await };
        let idle_until = ready.idle_since + self.app.config.jobs.idle;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            exit = ready.worker.idle() => {
                if let Some(lost) = own.take() {
                    let lost = lost.worker.bury(exit).await;
                    self.app.pool.note_loss(lost.exit.reason());
                    tracing::warn!(reason = %lost.exit.reason(), exit = %lost.exit, "an idle job worker was lost; the next job starts another");
                }
            }
            () = tokio::time::sleep_until(idle_until) => {
                if let Some(idle) = own.take() {
                    tracing::debug!(pid = idle.worker.pid(), "an idle job worker is ended");
                    idle.worker.stop().await;
                }
            }
        }
    }

    /// Whether the next job finds a worker that has loaded the script.
    pub(crate) fn is_warm(&self) -> bool {
        !matches!(self.workers, Workers::Own(None))
    }

    /// Ends the worker.
    pub(crate) async fn stop(&mut self) {
        if let Workers::Own(own) = &mut self.workers
            && let Some(own) = own.take()
        {
            own.worker.stop().await;
        }
    }
}

/// The slot's worker if it has loaded what is wanted, else one that has loaded what is active now.
async fn fit_worker(
    app: &Arc<App>,
    mut current: Option<Box<OwnWorker>>,
    wanted: Option<Version>,
) -> Result<Box<OwnWorker>, String> {
    let reload = app.reloads.load(Ordering::SeqCst);
    if let Some(own) = current.take_if(|own| own.fits(wanted, reload)) {
        return Ok(own);
    }
    let active = app.store.active().await.map_err(|error| chain(&error))?;
    let version = active.as_ref().map(|active| active.version);
    match current {
        // What was wanted at the claim has been replaced meanwhile.
        Some(own) if own.fits(version, reload) => return Ok(own),
        Some(outdated) => outdated.worker.stop().await,
        None => {}
    }
    let artifact = match active {
        Some(active) => Some(app.artifacts.obtain(&active).await.map_err(|error| error.to_string())?),
        None => None,
    };
    let load = Load {
        service: app.config.service.name.clone(),
        worker: app.pool.next_worker(),
        role: Role::Job,
        script: app.script.clone(),
        artifact,
        device: app.config.service.device.clone(),
        descriptors: true,
    };
    let idle_host: Arc<dyn Host> = Arc::new(ServingHost::new(Arc::clone(&app.state)));
    let started = Worker::start(&app.launcher, &app.runtime, load, app.config.workers.load_timeout, idle_host).await;
    let worker = started.map_err(|error| {
        app.pool.note_loss(error.reason());
        chain(&error)
    })?;
    tracing::debug!(pid = worker.pid(), "a job worker is ready");
    let wear = Wear::new(app.config.workers.recycling);
    Ok(Box::new(OwnWorker { worker, version, reload, idle_since: Instant::now(), wear }))
}

/// Keeps the worker for the next job, which otherwise starts another: nobody waits meanwhile, as for serving workers.
async fn keep_unless_worn_out(own: &mut Option<Box<OwnWorker>>, mut worker: Box<OwnWorker>) {
    match worker.wear.judge(worker.worker.pid()) {
        Some(reason) => {
            tracing::info!(pid = worker.worker.pid(), %reason, "a job worker is ended");
            worker.worker.stop().await;
        }
        None => *own = Some(worker),
    }
}

//! The job loop: claims what is due, runs it, and keeps the promises about it.
//!
//! Begin reading at [`Loop`]; [`attempt`] follows one attempt from claim to end.

mod ahead;
mod attempt;
mod host;
mod keeper;
mod persistence;
mod recorder;
mod runner;

use std::sync::Arc;
use std::time::Duration;

use dunnage_store::{ClaimedJob, StoreError, Terms};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::App;
use crate::problem::chain;
use crate::{results, uploads};
pub(crate) use persistence::{Settlement, persist};
use runner::{Runner, Workers};

/// The longest wait between two looks at the queue; hints make the usual one shorter.
const POLL: Duration = Duration::from_secs(1);
/// The first wait after something outside of a job went wrong; doubled with each further time.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How often expired leases are looked for; more often where leases are shorter, lest a job waits for longer than that twice.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often ended jobs are removed.
const PRUNE_EVERY: Duration = Duration::from_mins(1);
/// How many ended jobs are removed in one step, so that no step blocks others for long.
const PRUNE_BATCH: u32 = 25;

/// The tasks that run the jobs of one server.
pub(crate) struct Loop {
    slots: JoinSet<()>,
    upkeep: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Loop {
    /// Starts as many slots as there may be job workers; one that shares the serving workers where there are none.
    pub(crate) fn start(app: &Arc<App>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut slots = JoinSet::new();
        let own_workers = app.config.jobs.workers > 0;
        for _ in 0..app.config.jobs.workers.max(1) {
            let workers = if own_workers { Workers::Own(None) } else { Workers::Serving };
            slots.spawn(slot(Arc::clone(app), Runner::new(Arc::clone(app), workers), stopped.clone()));
        }
        let mut upkeep = JoinSet::new();
        upkeep.spawn(rescue(Arc::clone(app)));
        upkeep.spawn(prune(Arc::clone(app)));
        upkeep.spawn(retract_orphans(Arc::clone(app)));
        if app.config.objects.bucket.is_some() {
            upkeep.spawn(uploads::sweep_shared_now_and_then(Arc::clone(app)));
        }
        if app.config.objects.prefetch > 0 {
            upkeep.spawn(ahead::fetch_ahead(Arc::clone(app)));
        }
        Self { slots, upkeep, stop }
    }

    /// Claims nothing more, lets running attempts go on for `grace`, and hands back those that have not ended by then,
    /// uncharged.
    pub(crate) async fn stop(mut self, app: &App, grace: Duration) {
        self.upkeep.abort_all();
        self.stop.send_replace(true);
        let ended = async { while self.slots.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            app.running.kill_all();
            while self.slots.join_next().await.is_some() {}
        }
    }
}

/// Runs one job after the other.
async fn slot(app: Arc<App>, mut runner: Runner, mut stopped: watch::Receiver<bool>) {
    let mut failures = 0;
    while !*stopped.borrow_and_update() {
        let asked = Instant::now();
        let worked = match claim(&app).await {
            Ok(Some(claimed)) => attempt::run(&app, &mut runner, claimed, asked).await.map(|()| true),
            Ok(None) => Ok(false),
            Err(error) => Err(chain(&error)),
        };
        let wait = match worked {
            Ok(true) => {
                failures = 0;
                continue;
            }
            Ok(false) => POLL.mul_f64(rand::random_range(0.75..=1.25)),
            Err(error) => {
                failures += 1;
                let wait = (FIRST_BACKOFF * 2_u32.saturating_pow(failures - 1)).min(LONGEST_BACKOFF);
                tracing::error!(error, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "jobs have to wait");
                wait
            }
        };
        let hint = async {
            if failures > 0 {
                std::future::pending::<()>().await;
            }
            app.store.work_hint().await;
        };
        tokio::select! {
            () = runner.rest(wait) => {}
            () = hint => {}
            _ = stopped.changed() => {}
        }
    }
    runner.stop().await;
}

async fn claim(app: &App) -> Result<Option<ClaimedJob>, StoreError> {
    let mut claimed = app.store.claim(app.replica, 1, terms(app)).await?;
    Ok(claimed.pop())
}

/// How long a claim lasts. The database's limit of an attempt is for replicas that hang: it leaves time for all that one which does not
/// hang does itself, which is to load the script, to run it, to write its result to S3 and, after training, to store and to load what it has written.
fn terms(app: &App) -> Terms {
    let (jobs, load_timeout) = (&app.config.jobs, app.config.workers.load_timeout);
    let writing = if app.config.objects.allow_output.is_empty() { Duration::ZERO } else { results::PATIENCE };
    let working = jobs
        .timeout
        .saturating_add(load_timeout.saturating_mul(2))
        .saturating_add(writing)
        .saturating_add(app.artifacts.upload_patience());
    let limit = working.saturating_add(jobs.cancel_grace + jobs.grace + jobs.lease);
    Terms { lease: jobs.lease, limit }
}

/// Returns jobs to the queue whose holder was lost.
async fn rescue(app: Arc<App>) {
    let every = RESCUE_EVERY.min(app.config.jobs.lease);
    loop {
        match app.store.rescue().await {
            Ok(0) => {}
            Ok(rescued) => tracing::warn!(rescued, "jobs whose worker or server was lost were taken back"),
            Err(error) => tracing::error!(error = %chain(&error), "lost jobs cannot be looked for"),
        }
        tokio::time::sleep(every.mul_f64(rand::random_range(0.75..=1.25))).await;
    }
}

/// Marks versions bad that no attempt will ever bring to serve.
async fn retract_orphans(app: Arc<App>) {
    loop {
        tokio::time::sleep(PRUNE_EVERY.mul_f64(rand::random_range(0.75..=1.25))).await;
        match app.store.retract_orphans().await {
            Ok(0) => {}
            Ok(retracted) => tracing::info!(retracted, "versions of training that was cut off were marked bad"),
            Err(error) => tracing::error!(error = %chain(&error), "versions of training that was cut off cannot be looked for"),
        }
    }
}

/// Removes jobs whose retention has ended, and the uploads that came with them.
async fn prune(app: Arc<App>) {
    loop {
        match app.store.prune(app.config.jobs.retention, PRUNE_BATCH).await {
            Ok(pruned) => {
                let full = pruned.len() == PRUNE_BATCH as usize;
                if let Err(error) = app.files.remove_uploads(&pruned.concat()).await {
                    tracing::warn!(error = %chain(&error), "uploads of removed jobs cannot be removed");
                }
                if full {
                    continue;
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "ended jobs cannot be removed"),
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

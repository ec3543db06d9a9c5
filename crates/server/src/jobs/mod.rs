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

use dunnage_loops::{Beat, Looping};
use dunnage_store::{ClaimedJob, StoreError, Terms};
use tokio::time::Instant;

use crate::app::App;
use crate::problem::chain;
use crate::uploads;
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
/// How long one step of that may take; the uploads of the removed jobs may lie in S3.
const PRUNE_LIMIT: Duration = Duration::from_mins(5);
/// How many ended jobs are removed in one step, so that no step blocks others for long.
const PRUNE_BATCH: u32 = 25;

/// The loops that run the jobs of one server.
pub(crate) struct Loop {
    slots: Vec<Looping>,
    upkeep: Vec<Looping>,
}

impl Loop {
    /// Starts as many slots as there may be job workers; one that shares the serving workers where there are none.
    pub(crate) fn start(app: &Arc<App>) -> Self {
        let slots = (0..app.config.jobs.workers.max(1)).map(|_| app.start_loop("job-slot", slot)).collect();
        let mut upkeep = vec![
            app.start_loop("rescuer", rescue),
            app.start_loop("pruner", prune),
            app.start_loop("orphan-retractor", retract_orphans),
        ];
        if app.config.objects.bucket.is_some() {
            upkeep.push(app.start_loop("upload-sweeper", uploads::sweep_shared_now_and_then));
        }
        if app.config.objects.prefetch > 0 {
            upkeep.push(app.start_loop("prefetcher", ahead::fetch_ahead));
        }
        Self { slots, upkeep }
    }

    /// Claims nothing more, lets running attempts go on for `grace`, and hands back those that have not ended by then,
    /// uncharged.
    pub(crate) async fn stop(mut self, app: &App, grace: Duration) {
        drop(self.upkeep);
        self.slots.iter().for_each(Looping::tell_to_end);
        if tokio::time::timeout(grace, all_ended(&mut self.slots)).await.is_err() {
            app.running.kill_all();
            all_ended(&mut self.slots).await;
        }
    }
}

async fn all_ended(slots: &mut [Looping]) {
    for slot in slots {
        slot.ended().await;
    }
}

/// Runs one job after the other.
async fn slot(app: Arc<App>, beat: Beat) {
    let workers = if app.config.jobs.workers > 0 { Workers::Own(None) } else { Workers::Serving };
    let mut runner = Runner::new(Arc::clone(&app), workers);
    let mut failures = 0;
    while !beat.is_told_to_end() {
        beat.within(Duration::ZERO);
        let wait = match work(&app, &mut runner, &beat).await {
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
        beat.within(wait);
        tokio::select! {
            () = runner.rest(wait) => {}
            () = hint => {}
            () = beat.told_to_end() => {}
        }
    }
    runner.stop().await;
}

/// Claims a job, if one is due, and runs it; whether there was one.
async fn work(app: &Arc<App>, runner: &mut Runner, beat: &Beat) -> Result<bool, String> {
    let asked = Instant::now();
    match claim(app).await {
        Ok(Some(claimed)) => attempt::run(app, runner, claimed, asked, beat).await.map(|()| true),
        Ok(None) => Ok(false),
        Err(error) => Err(chain(&error)),
    }
}

async fn claim(app: &App) -> Result<Option<ClaimedJob>, StoreError> {
    let mut claimed = app.store.claim(app.replica, 1, terms(app)).await?;
    Ok(claimed.pop())
}

/// How long a claim lasts. The database's limit of an attempt is for replicas that hang: it leaves time for all that one which does not
/// hang does itself, which is to load the script, to run it, to write its result to S3 and, after training, to store and to load what it has written.
fn terms(app: &App) -> Terms {
    let jobs = &app.config.jobs;
    let working = attempt::running_limit(app).saturating_add(attempt::ending_limit(app));
    Terms { lease: jobs.lease, limit: working.saturating_add(jobs.grace + jobs.lease) }
}

/// Returns jobs to the queue whose holder was lost.
async fn rescue(app: Arc<App>, beat: Beat) {
    let every = RESCUE_EVERY.min(app.config.jobs.lease);
    loop {
        match app.store.rescue().await {
            Ok(0) => {}
            Ok(rescued) => tracing::warn!(rescued, "jobs whose worker or server was lost were taken back"),
            Err(error) => tracing::error!(error = %chain(&error), "lost jobs cannot be looked for"),
        }
        beat.rest(every.mul_f64(rand::random_range(0.75..=1.25))).await;
    }
}

/// Marks versions bad that no attempt will ever bring to serve.
async fn retract_orphans(app: Arc<App>, beat: Beat) {
    loop {
        beat.rest(PRUNE_EVERY.mul_f64(rand::random_range(0.75..=1.25))).await;
        match app.store.retract_orphans().await {
            Ok(0) => {}
            Ok(retracted) => tracing::info!(retracted, "versions of training that was cut off were marked bad"),
            Err(error) => tracing::error!(error = %chain(&error), "versions of training that was cut off cannot be looked for"),
        }
    }
}

/// Removes jobs whose retention has ended, and the uploads that came with them.
async fn prune(app: Arc<App>, beat: Beat) {
    loop {
        beat.within(PRUNE_LIMIT);
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
        beat.rest(PRUNE_EVERY).await;
    }
}

//! The job loop: claims what is due, runs it, and keeps the promises about it.
//!
//! Begin reading at [`Loop`]; a [`slot`] claims for one [`station`], whose worker runs one attempt after the other; [`attempt`] follows
//! one from claim to end. A job that is submitted while a station has room goes there without a detour ([`hand_over`]).

mod ahead;
mod attempt;
mod hand_over;
mod host;
mod keeper;
mod pace;
mod persistence;
mod protection;
mod recorder;
mod runner;
mod slot;
mod station;

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::problem::chain;
use crate::uploads;
use dunnage_loops::{Beat, Looping};
pub(crate) use hand_over::{Stations, submit};
pub(crate) use persistence::{Settlement, persist};

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
        let slots = (0..app.config.jobs.workers.max(1)).map(|_| app.start_loop("job-slot", slot::slot)).collect();
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
        if let Some(agent) = &app.config.jobs.ecs_agent {
            let agent = Arc::new(protection::Agent::new(agent));
            upkeep.push(app.start_loop("ecs-task-protection", move |app, beat| protection::protect(app, Arc::clone(&agent), beat)));
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

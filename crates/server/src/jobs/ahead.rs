//! Fetching the objects of jobs that wait, while earlier jobs run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_types::{Job, JobId};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use crate::app::App;
use crate::problem::chain;

/// How often the queue is looked at. A job that waits for less gains nothing from it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many objects are fetched ahead at once; the byte budget bounds them further.
const OBJECTS_AT_ONCE: usize = 4;

/// Fetches ahead for as long as the server runs. Only a hint, in every respect: what is fetched is not held, another replica may take
/// the job, and what fails now is tried again, and told of, when the job runs.
pub(super) async fn fetch_ahead(app: Arc<App>, beat: Beat) {
    let mut seen = HashSet::new();
    loop {
        beat.rest(LOOK_EVERY.mul_f64(rand::random_range(0.75..=1.25))).await;
        // Whoever is free fetches what it needs itself, at once.
        if !app.running.is_full(app.config.jobs.workers.max(1)) || app.files.outage().is_some() {
            continue;
        }
        let waiting = match app.store.waiting(app.config.objects.prefetch).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "waiting jobs cannot be looked at, so nothing is fetched ahead");
                continue;
            }
        };
        forget_others(&mut seen, &waiting);
        for job in waiting.iter().filter(|job| seen.insert(job.id)) {
            fetch(&app, job, &beat).await;
        }
    }
}

/// A job is looked at once, for as long as it waits.
fn forget_others(seen: &mut HashSet<JobId>, waiting: &[Job]) {
    let still: HashSet<_> = waiting.iter().map(|job| job.id).collect();
    seen.retain(|job| still.contains(job));
}

async fn fetch(app: &App, job: &Job, beat: &Beat) {
    let mut fetches: Vec<BoxFuture<'_, _>> = Vec::with_capacity(job.files.len());
    for address in &job.files {
        fetches.push(Box::pin(app.files.fetch_ahead(address)));
    }
    let mut fetches = futures_util::stream::iter(fetches).buffer_unordered(OBJECTS_AT_ONCE);
    beat.within(app.config.objects.fetch_timeout);
    while let Some(fetched) = fetches.next().await {
        beat.within(app.config.objects.fetch_timeout);
        if let Err(error) = fetched {
            tracing::debug!(job = %job.id, error = %chain(&error), "a file could not be fetched ahead");
        }
    }
}

//! Removing uploads that no unfinished job needs: those of requests, and of replicas, that were cut off.

use std::sync::Arc;
use std::time::Duration;

use dunnage_files::Files;
use dunnage_loops::Beat;
use dunnage_store::{JobFilter, Store, StoreError};
use dunnage_types::{FileAddress, JobState};

use crate::app::App;
use crate::problem::chain;

/// How many jobs are read at once.
const PAGE: u32 = 1000;
/// How often the uploads that replicas share are looked through.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// How long that may take.
const SWEEP_LIMIT: Duration = Duration::from_hours(1);
/// What is younger may belong to a job that is being committed.
const SHARED_AGE: Duration = Duration::from_hours(24);

/// Removes those in the data folder that have not changed for `age`. Failures of the disk are told and left for the next start.
pub(crate) async fn sweep_local(store: &dyn Store, files: &Files, age: Duration) -> Result<(), StoreError> {
    match files.uploads().sweep(&wanted(store).await?, age) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "uploads that nobody needs any more were removed"),
        Err(error) => tracing::warn!(%error, "uploads that nobody needs any more cannot be removed"),
    }
    Ok(())
}

/// Removes those in the bucket at once and then every hour, for as long as it is polled. Failures are told and tried again.
pub(crate) async fn sweep_shared_now_and_then(app: Arc<App>, beat: Beat) {
    loop {
        beat.within(SWEEP_LIMIT);
        match wanted(&*app.store).await {
            Ok(wanted) => sweep_shared(&app, &wanted).await,
            Err(error) => tracing::error!(error = %chain(&error), "uploads that no job needs cannot be looked for"),
        }
        beat.rest(SWEEP_EVERY.mul_f64(rand::random_range(0.75..=1.25))).await;
    }
}

async fn sweep_shared(app: &App, wanted: &[FileAddress]) {
    match app.files.sweep_shared_uploads(wanted, SHARED_AGE).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "uploads that no job needs were removed from the bucket"),
        Err(error) => tracing::warn!(error = %chain(&error), "uploads that no job needs cannot be removed from the bucket"),
    }
}

/// The files of every job that has not ended.
async fn wanted(store: &dyn Store) -> Result<Vec<FileAddress>, StoreError> {
    let mut wanted = Vec::new();
    for state in [JobState::Queued, JobState::Running] {
        let mut filter = JobFilter { state: Some(state), limit: PAGE, ..JobFilter::default() };
        loop {
            let page = store.jobs(&filter).await?;
            let files = page.jobs.into_iter().flat_map(|job| job.files);
            wanted.extend(files.filter(|address| matches!(address, FileAddress::Upload { .. })));
            match page.next {
                Some(next) => filter.before = Some(next),
                None => break,
            }
        }
    }
    Ok(wanted)
}

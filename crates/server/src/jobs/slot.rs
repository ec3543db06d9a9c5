//! One slot: claims what its worker can do with, and starts an attempt at each.

use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::{Beat, Looping};
use dunnage_store::{Ahead, Terms};
use tokio::time::Instant;

use super::attempt;
use super::runner::{Runner, Workers};
use super::station::{self, Station};
use crate::app::App;
use crate::problem::chain;

/// The longest wait between two looks at the queue; hints make the usual one shorter.
const POLL: Duration = Duration::from_secs(1);
/// The first wait after something outside of a job went wrong; doubled with each further time.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How many attempts there may be with those whose ends are being recorded. Results that S3 takes slowly must not pile up.
const MOST_ATTEMPTS: usize = 256;

/// Runs one job after the other. While the worker runs one, the next are claimed and made ready, and the ends of the last are recorded:
/// so that the worker waits for no commit, and commits carry many jobs.
pub(super) async fn slot(app: Arc<App>, beat: Beat) {
    let workers = if app.config.jobs.workers > 0 { Workers::Own(None) } else { Workers::Serving };
    let station = Arc::new(Station::new(Runner::new(Arc::clone(&app), workers)));
    let mut attempts: Vec<Looping> = Vec::new();
    while !beat.is_told_to_end() {
        beat.within(Duration::ZERO);
        attempts.retain(|attempt| !attempt.has_ended());
        let room = station.room().filter(|_| attempts.len() < MOST_ATTEMPTS);
        if let Some(room) = room {
            take_up(&app, &station, room, &mut attempts).await;
        }
        match station.take_failure() {
            Some((failure, failures)) => wait_after_failure(&station, &beat, &failure, failures).await,
            None => wait_for_work(&app, &station, &beat, attempts.len()).await,
        }
    }
    station.send_back();
    for mut attempt in attempts {
        attempt.ended().await;
    }
    station.stop().await;
}

/// Claims what is due and there is room for, and starts its attempts.
async fn take_up(app: &Arc<App>, station: &Arc<Station>, room: Ahead, attempts: &mut Vec<Looping>) {
    let asked = Instant::now();
    match app.store.claim_ahead(app.replica, room, terms(app)).await {
        Ok(claimed) => {
            for claimed in claimed {
                let (own, place) = (Arc::clone(app), station.line_up(!claimed.can_wait()));
                let run = move |beat| attempt::run(own, place, claimed, asked, beat);
                // One that panics leaves its job to be rescued.
                attempts.push(app.loops.start_once("attempt", run, || {}));
            }
        }
        Err(error) => station.fail(chain(&error)),
    }
}

async fn wait_after_failure(station: &Station, beat: &Beat, failure: &str, failures: u32) {
    let wait = (FIRST_BACKOFF * 2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_BACKOFF);
    tracing::error!(error = failure, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "jobs have to wait");
    beat.within(wait);
    tokio::select! {
        () = station.rest(wait) => {}
        () = beat.told_to_end() => {}
    }
}

async fn wait_for_work(app: &App, station: &Station, beat: &Beat, attempts: usize) {
    let wait = POLL.mul_f64(rand::random_range(0.75..=1.25));
    let has_room = station.room().is_some() && attempts < MOST_ATTEMPTS;
    beat.within(wait);
    tokio::select! {
        () = app.store.work_hint(), if has_room => {}
        () = station.changed() => {}
        () = station.rest(wait) => {}
        () = beat.told_to_end() => {}
    }
}

/// How long a claim lasts. The database's limit of an attempt is for replicas that hang: it leaves time for all that one which does not
/// hang does itself, which is to wait for its turn, to load the script, to run it, to write its result to S3 and, after training, to
/// store and to load what it has written.
fn terms(app: &App) -> Terms {
    let jobs = &app.config.jobs;
    let working = attempt::running_limit(app).saturating_add(attempt::ending_limit(app));
    Terms { lease: jobs.lease, limit: working.saturating_add(station::PATIENCE + jobs.grace + jobs.lease) }
}

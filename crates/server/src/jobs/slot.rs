//! One slot: claims what its worker can do with, and starts an attempt at each.

use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
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

/// Runs one job after the other. While the worker runs one, the next are claimed and made ready, and the ends of the last are recorded:
/// so that the worker waits for no commit, and commits carry many jobs.
pub(super) async fn slot(app: Arc<App>, beat: Beat) {
    let workers = if app.config.jobs.workers > 0 { Workers::Own(None) } else { Workers::Serving };
    let station = Arc::new(Station::new(Runner::new(Arc::clone(&app), workers)));
    let open = app.stations.open(&station);
    let mut may_be_more = true;
    while !beat.is_told_to_end() {
        beat.within(Duration::ZERO);
        if let Some(room) = station.begin_claim(may_be_more) {
            may_be_more = take_up(&app, &station, room).await;
            station.has_claimed();
        }
        match station.take_failure() {
            Some((failure, failures)) => wait_after_failure(&station, &beat, &failure, failures).await,
            None => may_be_more |= wait_for_work(&app, &station, &beat).await,
        }
    }
    drop(open);
    station.send_back();
    station.ended().await;
    station.stop().await;
}

/// Claims what is due and there is room for, and starts its attempts. Whether there may be more that can be claimed ahead.
async fn take_up(app: &Arc<App>, station: &Arc<Station>, room: Ahead) -> bool {
    let asked = Instant::now();
    match app.store.claim_ahead(app.replica, room, terms(app)).await {
        Ok(claimed) => {
            let may_be_more = claimed.len() >= room.limit as usize;
            for claimed in claimed {
                station.start(app, station.seat(), claimed, asked);
            }
            may_be_more
        }
        Err(error) => {
            station.fail(chain(&error));
            true
        }
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

/// Whether there may be work now, as far as one can tell without looking at what there was before.
async fn wait_for_work(app: &App, station: &Station, beat: &Beat) -> bool {
    let wait = POLL.mul_f64(rand::random_range(0.75..=1.25));
    let has_room = station.has_room();
    beat.within(wait);
    tokio::select! {
        () = app.store.work_hint(), if has_room => true,
        () = station.changed() => false,
        () = station.rest(wait) => true,
        () = beat.told_to_end() => false,
    }
}

/// How long a claim lasts. The database's limit of an attempt is for replicas that hang: it leaves time for all that one which does not
/// hang does itself, which is to wait for its turn, to load the script, to run it, to write its result to S3 and, after training, to
/// store and to load what it has written.
pub(super) fn terms(app: &App) -> Terms {
    let jobs = &app.config.jobs;
    let working = attempt::running_limit(app).saturating_add(attempt::ending_limit(app));
    Terms { lease: jobs.lease, limit: working.saturating_add(station::PATIENCE + jobs.grace + jobs.lease) }
}

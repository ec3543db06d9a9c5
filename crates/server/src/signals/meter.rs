//! What has happened since the last look, and how things stand.

use std::time::{Duration, Instant};

use dunnage_store::Backlog;

use super::gpu::Reading;
use crate::app::App;

/// The signals of one interval.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Signals {
    /// The jobs of the service that wait, how many of them run, and since when the oldest waits; `None` while the database is away.
    pub(crate) backlog: Option<Backlog>,
    /// Requests that are being answered here.
    pub(crate) in_flight: u64,
    /// The part of the interval in which the serving workers had something to do, from 0 to 1.
    pub(crate) worker_busy: f64,
    /// Bytes that clients have sent and bytes of objects that were fetched, in the interval.
    pub(crate) bytes_in: u64,
    /// Bytes that clients have taken, in the interval.
    pub(crate) bytes_out: u64,
    pub(crate) gpus: Vec<Reading>,
}

/// Knows what had been counted at the last look.
pub(crate) struct Meter {
    last: Counts,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    at: Instant,
    busy: Duration,
    bytes_in: u64,
    bytes_out: u64,
}

impl Meter {
    pub(crate) fn new(app: &App) -> Self {
        Self { last: Counts::of(app) }
    }

    /// What has happened since the last look. Where that fails, the backlog is missing and the log is told.
    pub(crate) async fn look(&mut self, app: &App) -> Signals {
        let backlog = app.backlog().await;
        let gpus = app.gpus.read().await;
        let now = Counts::of(app);
        let last = std::mem::replace(&mut self.last, now);
        Signals {
            backlog,
            in_flight: app.metrics.requests_in_flight(),
            worker_busy: busy_share(now.busy.saturating_sub(last.busy), now.at - last.at, app.config.workers.serving),
            bytes_in: now.bytes_in - last.bytes_in,
            bytes_out: now.bytes_out - last.bytes_out,
            gpus,
        }
    }
}

impl Counts {
    fn of(app: &App) -> Self {
        let (received, sent) = app.metrics.traffic().bytes();
        let fetched = app.files.cache_counters().bytes_fetched;
        Self { at: Instant::now(), busy: app.pool.busy(), bytes_in: received + fetched, bytes_out: sent }
    }
}

fn busy_share(busy: Duration, interval: Duration, workers: usize) -> f64 {
    let most = interval.as_secs_f64() * u32::try_from(workers).map_or(f64::MAX, f64::from);
    // While one version takes over from another there are more workers for a moment.
    if most > 0.0 { (busy.as_secs_f64() / most).min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_what_all_workers_could_do() {
        let second = Duration::from_secs(1);
        for (busy, interval, workers, share) in [
            (second, 4 * second, 1, 0.25),
            (second, second, 2, 0.5),
            (3 * second, second, 2, 1.0),
            (second, Duration::ZERO, 1, 0.0),
        ] {
            assert!((busy_share(busy, interval, workers) - share).abs() < 1e-9, "{busy:?} {interval:?} {workers}");
        }
    }
}

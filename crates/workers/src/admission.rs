//! Who may wait for a serving worker. What cannot be answered in time is refused at once, so that the rest can be.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::Work;
use crate::pace::Forecast;
use crate::queue::Queue;
use crate::shared::Shared;

/// So many requests for each worker may wait however long that is expected to take, if only their own deadlines allow it: a few
/// clients of a slow model are no overload.
const ALWAYS_WAITING: usize = 16;
/// The part of a request's time after which it should be answered, as forecasts err.
const SAFE_PART: f64 = 0.75;
/// The shortest and the longest time after which somebody who is refused is told to try again.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Refusals are told in the log no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A request was refused because too many wait already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting: {cause}")]
pub struct Refusal {
    /// Why.
    pub cause: RefusalCause,
    /// When there may be room again; drawn by lot, so that those who are refused together do not come back together.
    pub retry_after: Duration,
}

/// Why a request was refused, in one stable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// `max_queue` requests wait, besides those that idle workers are about to take.
    QueueFull,
    /// It would wait for longer than `max_queue_wait`.
    QueueWait,
    /// It would not be answered by its deadline.
    Deadline,
}

impl RefusalCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::QueueWait, Self::Deadline];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueWait => "queue_wait",
            Self::Deadline => "deadline",
        }
    }
}

impl fmt::Display for RefusalCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Shared {
    /// Whether a request that comes now may wait for a worker.
    pub(crate) fn admit(&self, deadline: Instant) -> Result<(), Refusal> {
        let now = Instant::now();
        let (queued, is_full) = self.queue.occupancy();
        let workers = self.serving().ready().max(1);
        let forecast = self.pace.forecast(queued, workers, now);
        let time_left = deadline.saturating_duration_since(now);
        let cause = if is_full {
            RefusalCause::QueueFull
        } else if is_too_late(forecast, queued, workers, time_left) {
            RefusalCause::Deadline
        } else if is_too_long(forecast, queued, workers, self.settings.max_queue_wait) {
            RefusalCause::QueueWait
        } else {
            return Ok(());
        };
        Err(self.refuse(cause, forecast))
    }

    /// The refusal of a request that others have overtaken on its way into the queue.
    pub(crate) fn refuse_for_want_of_room(&self) -> Refusal {
        let workers = self.serving().ready().max(1);
        self.refuse(RefusalCause::QueueFull, self.pace.forecast(self.queue.len(), workers, Instant::now()))
    }

    fn refuse(&self, cause: RefusalCause, forecast: Forecast) -> Refusal {
        self.refusals.note(cause);
        Refusal { cause, retry_after: retry_after(forecast) }
    }
}

/// Whether a request has too little time left to get through the queue and be answered. One that comes next when a worker is free has
/// its chance, as its call may be a short one.
fn is_too_late(forecast: Forecast, queued: usize, workers: usize, time_left: Duration) -> bool {
    // A call that has taken longer than usual may be about to end.
    let busy = forecast.busy.min(forecast.call);
    queued >= workers && forecast.queue + busy + forecast.call > time_left.mul_f64(SAFE_PART)
}

fn is_too_long(forecast: Forecast, queued: usize, workers: usize, limit: Duration) -> bool {
    !limit.is_zero() && queued >= ALWAYS_WAITING * workers && forecast.wait() > limit
}

/// About as long as it takes to answer what waits now: half to one and a half times that.
fn retry_after(forecast: Forecast) -> Duration {
    let [shortest, longest] = RETRY_AFTER;
    forecast.wait().clamp(shortest, longest).mul_f64(rand::random_range(0.5..=1.5))
}

/// How many requests were refused, by cause.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; RefusalCause::ALL.len()],
    told: Mutex<Option<Instant>>,
}

impl Refusals {
    /// Counts a refusal, and tells of it now and then.
    fn note(&self, cause: RefusalCause) {
        self.counts[cause as usize].fetch_add(1, Ordering::Relaxed);
        if self.is_to_be_told(Instant::now()) {
            let refused: u64 = self.by_cause().iter().map(|(_, count)| count).sum();
            tracing::warn!(%cause, refused, "more requests come than the workers can answer; some are refused");
        }
    }

    pub(crate) fn by_cause(&self) -> Vec<(RefusalCause, u64)> {
        RefusalCause::ALL.into_iter().map(|cause| (cause, self.counts[cause as usize].load(Ordering::Relaxed))).collect()
    }

    fn is_to_be_told(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

/// A place in the queue. Dropping it, as when the client hangs up, frees it at once, and all that the request holds.
pub(crate) struct Place<'a> {
    queue: &'a Queue<Work>,
    number: u64,
}

impl<'a> Place<'a> {
    /// Puts work into the queue; `None` when that is full.
    pub(crate) fn take(queue: &'a Queue<Work>, work: Work) -> Option<Self> {
        queue.push(work).ok().map(|number| Self { queue, number })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop(self.queue.remove(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn forecast(queue: u64, busy: u64, call: u64) -> Forecast {
        Forecast { queue: secs(queue), busy: secs(busy), call: secs(call) }
    }

    #[test]
    fn what_would_not_be_answered_in_time_is_too_late() {
        assert!(!is_too_late(forecast(13, 0, 2), 9, 2, secs(20)));
        assert!(is_too_late(forecast(14, 0, 2), 9, 2, secs(20)));
        assert!(!is_too_late(forecast(10, 20, 60), 1, 2, secs(20)), "it may be faster than those before it");
        assert!(is_too_late(forecast(9, 4, 4), 9, 2, secs(20)));
        assert!(!is_too_late(forecast(9, 60, 3), 9, 2, secs(20)), "the call that keeps the worker may be about to end");
    }

    #[test]
    fn a_long_wait_is_too_long_once_more_than_a_few_wait() {
        assert!(is_too_long(forecast(1, 2, 0), 32, 2, secs(2)));
        assert!(!is_too_long(forecast(1, 2, 0), 31, 2, secs(2)), "a few always may");
        assert!(!is_too_long(forecast(1, 1, 0), 32, 2, secs(2)));
        assert!(!is_too_long(forecast(60, 0, 0), 999, 2, secs(0)), "0s leaves it to the deadline");
    }

    #[test]
    fn those_who_are_refused_together_come_back_one_after_the_other() {
        let waits: Vec<_> = (0..200).map(|_| retry_after(forecast(10, 0, 0))).collect();
        assert!(waits.iter().all(|wait| (secs(5)..=secs(15)).contains(wait)));
        assert!(waits.iter().max() > waits.iter().min().map(|least| *least * 2).as_ref());
        assert!(retry_after(forecast(0, 0, 0)) >= secs(1) / 2 && retry_after(forecast(9999, 0, 0)) <= secs(90));
    }

    #[test]
    fn refusals_are_counted_each_and_told_seldom() {
        let refusals = Refusals::default();
        (0..3).for_each(|_| refusals.note(RefusalCause::QueueWait));
        let counts = [(RefusalCause::QueueFull, 0), (RefusalCause::QueueWait, 3), (RefusalCause::Deadline, 0)];
        assert_eq!(refusals.by_cause(), counts);
        assert!(!refusals.is_to_be_told(Instant::now()) && refusals.is_to_be_told(Instant::now() + TELL_EVERY));
    }
}

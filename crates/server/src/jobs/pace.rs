//! How long attempts take lately, and so how many are worth claiming ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much work a worker has at hand at most. It has to last for as long as a claim takes, and be short enough for nobody to mind that
/// another replica, which may be idle, does not get it.
const AT_HAND: Duration = Duration::from_millis(50);
/// How many jobs that may be.
const MOST: u64 = 128;
/// What is not known.
const UNKNOWN: u64 = u64::MAX;

/// The usual time of an attempt at one worker, in nanoseconds. It rises at once, and halves its distance when attempts get faster.
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// Of a worker that has run nothing yet.
    pub(super) fn unknown() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }

    /// Notes how long an attempt has kept the worker.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(UNKNOWN - 1);
        let usual = match self.0.load(Ordering::Relaxed) {
            UNKNOWN => took,
            before => took.max(before.midpoint(took)),
        };
        self.0.store(usual, Ordering::Relaxed);
    }

    /// Forgets it: the worker is another, or is held up.
    pub(super) fn forget(&self) {
        self.0.store(UNKNOWN, Ordering::Relaxed);
    }

    /// How many jobs the worker may have at hand, with the one that it runs: one where attempts take long, or nobody knows.
    pub(super) fn places(&self) -> u32 {
        let usual = self.0.load(Ordering::Relaxed).max(1);
        let fitting = u64::try_from(AT_HAND.as_nanos()).unwrap_or(UNKNOWN) / usual;
        u32::try_from(fitting.clamp(1, MOST)).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_claimed_as_run_within_the_time_at_hand() {
        let pace = Pace::unknown();
        assert_eq!(pace.places(), 1);
        for (millis, places) in [(10, 5), (60, 1), (0, 1), (0, 3), (0, 6), (0, 13), (0, 26), (0, 53), (0, 106), (0, 128), (25, 2)] {
            pace.note(Duration::from_millis(millis));
            assert_eq!(pace.places(), places, "after {millis} ms");
        }
        pace.forget();
        assert_eq!(pace.places(), 1);
        pace.note(Duration::MAX);
        assert_eq!(pace.places(), 1);
    }
}

//! How long a soak takes, and what it lets pass.

use std::time::Duration;

/// What `make test` does; `make soak` says more.
const SECONDS: u64 = 40;
/// As short as can be for a leak that is planted.
const BRIEF_SECONDS: u64 = 12;
/// The growth of the server's memory that ten minutes or more are held to.
const GROWTH: f64 = 1.0;
/// What may come and go in a shorter run, spread over its time: caches that fill, and heaps that settle.
const SETTLING: f64 = 12.0;

/// The course of a soak.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How long the clients go on.
    pub(crate) during: Duration,
    /// How often the server is looked at.
    pub(crate) sample_every: Duration,
    /// How long the caches take to fill; what is seen before does not count.
    pub(crate) warm_up: Duration,
}

impl Plan {
    /// As `DUNNAGE_SOAK_MINUTES` has it.
    pub(crate) fn from_environment() -> Self {
        let minutes = std::env::var("DUNNAGE_SOAK_MINUTES").ok();
        let seconds = minutes.map_or(SECONDS, |text| {
            60 * text.parse::<u64>().unwrap_or_else(|_| panic!("`DUNNAGE_SOAK_MINUTES` is `{text}`, which is no number"))
        });
        Self::of(Duration::from_secs(seconds))
    }

    pub(crate) fn brief() -> Self {
        Self::of(Duration::from_secs(BRIEF_SECONDS))
    }

    fn of(during: Duration) -> Self {
        let sample_every = (during / 100).clamp(Duration::from_millis(250), Duration::from_secs(5));
        Self { during, sample_every, warm_up: during / 3 }
    }

    /// How many megabytes a minute the server's memory may grow by.
    pub(crate) fn growth(&self) -> f64 {
        let minutes = self.during.as_secs_f64() / 60.0;
        GROWTH.max(SETTLING / minutes * (1.0 - (minutes / 10.0).min(1.0)))
    }
}

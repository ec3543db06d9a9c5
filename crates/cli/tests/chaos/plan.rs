//! How long a run takes, and how much happens in it.

use std::time::Duration;

use crate::faults::Fault;

/// What `make test` does; `make chaos` says more.
const SECONDS: u64 = 8;
const JOBS: usize = 200;

/// The course of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What happens is drawn from it.
    pub(crate) seed: u64,
    /// What goes wrong.
    pub(crate) faults: &'static [Fault],
    /// How long things go wrong.
    pub(crate) during: Duration,
    /// How many jobs are submitted, spread over that time.
    pub(crate) jobs: usize,
    /// Of so many jobs one is slow.
    pub(crate) slow_every: usize,
    /// How long the slow ones take.
    pub(crate) slow_job: Duration,
    /// How long after the last fault every job must have been accepted and have ended.
    pub(crate) bound: Duration,
}

impl Plan {
    /// With these faults, and otherwise as the environment has it: `DUNNAGE_CHAOS_SEED`, `DUNNAGE_CHAOS_SECONDS` and `DUNNAGE_CHAOS_JOBS`.
    pub(crate) fn from_environment(faults: &'static [Fault]) -> Self {
        let during = Duration::from_secs(number("SECONDS").unwrap_or(SECONDS));
        Self {
            faults,
            seed: number("SEED").unwrap_or_else(rand::random),
            during,
            jobs: number("JOBS").map_or(JOBS, |jobs| usize::try_from(jobs).expect("a number of jobs is small")),
            slow_every: 10,
            slow_job: Duration::from_millis(400),
            // The waits before attempts double: a job that was lost all the time waits about as long once more.
            bound: Duration::from_secs(120).max(2 * during),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let name = format!("DUNNAGE_CHAOS_{name}");
    let text = std::env::var(&name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{name}` is `{text}`, which is no number")))
}

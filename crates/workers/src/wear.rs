//! When a worker that is still alive has had its day.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// How far the number of requests may be off, so that workers which started together are not replaced together.
const JITTER: f64 = 0.1;
/// A worker's memory is looked at so often at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After what workers are replaced though they have not died. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recycling {
    /// After about so many requests; a tenth more or less, drawn for each worker.
    pub requests: Option<u64>,
    /// When a worker takes up so much memory, as the system counts it (resident set), in bytes.
    pub rss_bytes: Option<u64>,
    /// After so many failed calls in a row.
    pub failures: Option<u32>,
}

/// What a worker has been through.
#[derive(Debug)]
pub struct Wear {
    requests_left: Option<u64>,
    rss_limit: Option<u64>,
    failures_limit: Option<u32>,
    failures: u32,
    /// When its memory may be looked at again.
    next_look: Instant,
}

/// Why a worker is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WornOut {
    /// It has answered about as many requests as it may.
    Requests,
    /// It takes up too much memory.
    Memory {
        /// How much that is.
        rss_bytes: u64,
    },
    /// Its calls fail.
    Failures {
        /// How many in a row have.
        in_a_row: u32,
    },
}

impl Wear {
    /// That of a new worker.
    #[must_use]
    pub fn new(recycling: Recycling) -> Self {
        Self::with_jitter(recycling, rand::random_range(1.0 - JITTER..=1.0 + JITTER))
    }

    fn with_jitter(recycling: Recycling, jitter: f64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is a guess anyhow"
        )]
        let jittered = |requests: u64| ((requests as f64 * jitter).round() as u64).max(1);
        Self {
            requests_left: recycling.requests.map(jittered),
            rss_limit: recycling.rss_bytes,
            failures_limit: recycling.failures,
            failures: 0,
            next_look: Instant::now(),
        }
    }

    /// Notes the answers of one call: how many there were, and whether all of them were failures.
    pub fn note(&mut self, answers: u64, failed: bool) {
        self.requests_left = self.requests_left.map(|left| left.saturating_sub(answers));
        self.failures = if failed { self.failures + 1 } else { 0 };
    }

    /// Why the worker with this process is to be replaced, if it is.
    #[must_use]
    pub fn judge(&mut self, pid: Option<i32>) -> Option<WornOut> {
        if self.requests_left == Some(0) {
            return Some(WornOut::Requests);
        }
        if self.failures_limit.is_some_and(|limit| self.failures >= limit) {
            return Some(WornOut::Failures { in_a_row: self.failures });
        }
        let (limit, pid) = self.rss_limit.zip(pid)?;
        if Instant::now() < self.next_look {
            return None;
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        rss_bytes(pid).filter(|rss| *rss >= limit).map(|rss_bytes| WornOut::Memory { rss_bytes })
    }
}

impl fmt::Display for WornOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests => formatter.write_str("it has answered its share of requests"),
            Self::Memory { rss_bytes } => write!(formatter, "it takes up {rss_bytes} bytes of memory"),
            Self::Failures { in_a_row } => write!(formatter, "{in_a_row} calls in a row have failed"),
        }
    }
}

/// The memory that a process takes up.
fn rss_bytes(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kibibytes.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> Option<i32> {
        i32::try_from(std::process::id()).ok()
    }

    #[test]
    fn a_worker_has_had_its_day_after_about_so_many_requests() {
        let recycling = Recycling { requests: Some(100), ..Recycling::default() };
        for (jitter, share) in [(0.9, 90), (1.0, 100), (1.1, 110)] {
            let mut wear = Wear::with_jitter(recycling, jitter);
            wear.note(share - 1, false);
            assert_eq!(wear.judge(None), None);
            wear.note(1, false);
            assert_eq!(wear.judge(None), Some(WornOut::Requests));
        }
        let drawn: Vec<_> = (0..50).map(|_| Wear::new(recycling).requests_left.unwrap()).collect();
        assert!(drawn.iter().all(|left| (90..=110).contains(left)), "{drawn:?}");
        assert!(drawn.iter().any(|left| *left != drawn[0]), "they differ: {drawn:?}");
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut wear = Wear::new(Recycling { failures: Some(2), ..Recycling::default() });
        [true, false, true].into_iter().for_each(|failed| wear.note(1, failed));
        assert_eq!(wear.judge(None), None);
        wear.note(1, true);
        assert_eq!(wear.judge(None), Some(WornOut::Failures { in_a_row: 2 }));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_looked_at_now_and_then() {
        let limit = |bytes| Wear::new(Recycling { rss_bytes: Some(bytes), ..Recycling::default() });
        assert!(matches!(limit(1).judge(own_pid()), Some(WornOut::Memory { rss_bytes }) if rss_bytes > 100_000));
        let mut modest = limit(u64::MAX);
        assert_eq!(modest.judge(own_pid()), None);
        modest.rss_limit = Some(1);
        assert_eq!(modest.judge(own_pid()), None, "it has just been looked at");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(modest.judge(own_pid()).is_some());
    }

    #[test]
    fn by_default_a_worker_goes_on() {
        let mut wear = Wear::new(Recycling::default());
        wear.note(u64::MAX, true);
        assert_eq!(wear.judge(own_pid()), None);
    }
}

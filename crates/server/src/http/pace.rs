//! How long may be waited for what goes on bit by bit: a body that comes, an answer that is taken.

use std::time::Duration;

use tokio::time::Instant;

/// The time that is left for something slow. Waiting uses it up, and each byte that moves earns some.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    grace: Duration,
    bytes_per_sec: u64,
    moved: u64,
    waited: Duration,
    /// Since when nothing has moved.
    since: Option<Instant>,
}

impl Pace {
    /// With `grace` to wait in all, and a second more for each `bytes_per_sec` bytes.
    pub(super) fn new(grace: Duration, bytes_per_sec: u64) -> Self {
        Self { grace, bytes_per_sec, moved: 0, waited: Duration::ZERO, since: None }
    }

    /// Nothing moves. Returns since when that is so, and how long it may go on from then.
    pub(super) fn wait(&mut self) -> (Instant, Duration) {
        (*self.since.get_or_insert_with(Instant::now), self.left())
    }

    /// So many bytes have moved, and nothing is waited for.
    pub(super) fn go_on(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.moved += bytes as u64;
    }

    /// Whether something is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// How many bytes have moved.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    fn left(&self) -> Duration {
        let earned = Duration::from_secs(self.moved / self.bytes_per_sec.max(1));
        self.grace.saturating_add(earned).saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_earn_time_and_waiting_takes_it() {
        let mut pace = Pace::new(Duration::from_secs(10), 1024);
        assert_eq!((pace.left(), pace.is_waiting()), (Duration::from_secs(10), false));
        for (bytes, wait, left) in [(4096, 0, 14), (0, 5, 9), (0, 20, 0), (1024 * 16, 0, 5)] {
            let (begin, _) = pace.wait();
            tokio::time::advance(Duration::from_secs(wait)).await;
            assert_eq!(pace.wait().0, begin, "it is one wait until something moves");
            pace.go_on(bytes);
            assert_eq!(pace.left(), Duration::from_secs(left), "after {bytes} bytes and {wait} s");
        }
        assert_eq!(pace.moved(), 4096 + 1024 * 16);
    }
}

//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::jittered;

/// The first pause; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, unless S3 asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// No request is tried again later than this after the first try.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often something is tried again, and with what pauses. All retries are counted here; the SDK makes none.
#[derive(Debug)]
pub(super) struct Retries {
    left: u32,
    pause: Duration,
    give_up: Option<Instant>,
}

impl Retries {
    /// Retries of a request: at most `count`, all begun within ten seconds from now.
    pub(super) fn of_request(count: u32) -> Self {
        Self { left: count, pause: FIRST_PAUSE, give_up: Some(Instant::now() + PATIENCE) }
    }

    /// Resumptions of a body that breaks off: at most `count`, whenever they are needed.
    pub(super) fn of_resumption(count: u32) -> Self {
        Self { left: count, pause: FIRST_PAUSE, give_up: None }
    }

    /// Waits before the next try, at least as long as S3 asks for; `false` at once when there should be none.
    pub(super) async fn wait(&mut self, asked_for: Option<Duration>) -> bool {
        let pause = jittered(self.pause).max(asked_for.unwrap_or_default());
        let next = Instant::now() + pause;
        if self.left == 0 || self.give_up.is_some_and(|give_up| next > give_up) {
            return false;
        }
        self.left -= 1;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tokio::time::sleep_until(next).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_are_few_and_their_pauses_grow() {
        let (mut retries, start) = (Retries::of_request(3), Instant::now());
        for at_most in [200, 600, 1400] {
            assert!(retries.wait(None).await);
            let elapsed = start.elapsed().as_millis();
            assert!(elapsed <= at_most + 5 && elapsed >= at_most * 3 / 4, "{elapsed} of {at_most}");
        }
        assert!(!retries.wait(None).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_s3_asks_for_is_kept_or_ends_the_retries() {
        let (mut retries, start) = (Retries::of_request(3), Instant::now());
        assert!(retries.wait(Some(Duration::from_secs(4))).await);
        assert!(start.elapsed() >= Duration::from_secs(4));
        assert!(!retries.wait(Some(Duration::from_secs(7))).await, "that would be 11 s after the first");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

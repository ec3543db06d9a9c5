//! When a callback that failed is tried again, and when nobody tries any more.

use std::time::Duration;

use dunnage_store::Delivery;

use super::post::Reply;
use crate::config::CallbackConfig;

/// How long to wait after each attempt, in first waits: with one of 5 s these are 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h,
/// and from then on 8 h.
const WAITS: [u32; 9] = [1, 6, 24, 120, 360, 720, 1440, 2880, 5760];
/// How far a wait may be off, so that what has failed together does not come back together.
const JITTER: std::ops::RangeInclusive<f64> = 0.8..=1.2;
/// A receiver's `Retry-After` counts up to this.
const LONGEST_ASKED: Duration = Duration::from_hours(8);

/// What becomes of a callback whose delivery number `attempt` got this reply.
pub(super) fn settle(reply: Reply, attempt: u32, config: &CallbackConfig) -> Delivery {
    match reply {
        Reply::Taken => Delivery::Delivered,
        Reply::Gone { error } => Delivery::GivenUp { error },
        Reply::Failed { error, .. } if attempt >= config.attempts => Delivery::GivenUp { error },
        Reply::Failed { error, retry_after } => {
            let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED);
            let wait = wait(attempt, config.backoff).mul_f64(rand::random_range(JITTER));
            Delivery::Retry { error, after: wait.max(asked) }
        }
    }
}

/// The wait after an attempt, before it is jittered.
fn wait(attempt: u32, first: Duration) -> Duration {
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    first.saturating_mul(WAITS[step])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CallbackConfig {
        CallbackConfig {
            secrets: Vec::new(),
            allow_private: false,
            attempts: 3,
            timeout: Duration::from_secs(15),
            backoff: Duration::from_secs(5),
        }
    }

    fn failed(retry_after: Option<Duration>) -> Reply {
        Reply::Failed { error: "it answered 503".to_owned(), retry_after }
    }

    fn after(delivery: Delivery) -> Duration {
        match delivery {
            Delivery::Retry { after, .. } => after,
            settled => panic!("it is not tried again: {settled:?}"),
        }
    }

    #[test]
    fn waits_grow_to_eight_hours() {
        let secs: Vec<_> = (1..=11).map(|attempt| wait(attempt, Duration::from_secs(5)).as_secs()).collect();
        assert_eq!(secs, [5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800, 28800]);
    }

    #[test]
    fn a_wait_is_off_by_a_fifth_at_most() {
        for _ in 0..1000 {
            let wait = after(settle(failed(None), 2, &config()));
            assert!((Duration::from_secs(24)..=Duration::from_secs(36)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_ever() {
        let asked = |secs| after(settle(failed(Some(Duration::from_secs(secs))), 1, &config()));
        assert_eq!(asked(100), Duration::from_secs(100));
        assert!(asked(1) >= Duration::from_secs(4), "but not for less");
        assert_eq!(asked(u64::MAX), LONGEST_ASKED);
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let error = "it answered 503".to_owned();
        assert!(matches!(settle(failed(None), 2, &config()), Delivery::Retry { .. }));
        assert_eq!(settle(failed(None), 3, &config()), Delivery::GivenUp { error: error.clone() });
        // The server was lost in the last attempt.
        assert_eq!(settle(failed(None), 4, &config()), Delivery::GivenUp { error });
        assert_eq!(settle(Reply::Taken, 4, &config()), Delivery::Delivered);
    }
}

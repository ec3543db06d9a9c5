//! A timer that costs nothing while it is not needed.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes its task when a time has come.
///
/// What is waited for seldom takes long, and setting a timer for each wait would cost more than the wait. So a timer that has been set
/// stays set when the wait is over; the next wait finds it, and if it goes off too early it is set anew. A busy connection sets it
/// once in each period, not with each request.
#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Whether `deadline` has passed; if not, the task is woken no later than then.
    pub(super) fn has_passed(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    async fn passes(timer: &mut Timer, deadline: Instant) {
        poll_fn(|cx| if timer.has_passed(deadline, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_met_whether_later_or_earlier_than_the_last() {
        let begin = Instant::now();
        let mut timer = Timer::default();
        for seconds in [3, 7, 5, 9, 9, 20] {
            let deadline = begin + Duration::from_secs(seconds);
            let begun = Instant::now();
            passes(&mut timer, deadline).await;
            // The clock of the runtime is exact to a millisecond.
            assert!(Instant::now() - deadline.max(begun) <= Duration::from_millis(2), "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_ended_early_leaves_nothing_behind() {
        let begin = Instant::now();
        let mut timer = Timer::default();
        poll_fn(|cx| Poll::Ready(timer.has_passed(begin + Duration::from_secs(30), cx))).await;
        passes(&mut timer, begin + Duration::from_secs(2)).await;
        assert!(begin.elapsed() < Duration::from_secs(3));
        passes(&mut timer, begin + Duration::from_secs(40)).await;
        assert!(begin.elapsed() >= Duration::from_secs(40));
    }
}

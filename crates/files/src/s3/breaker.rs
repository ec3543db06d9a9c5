//! Keeps an outage of S3 from eating everybody's time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many outages in a row open the breaker.
const THRESHOLD: u32 = 5;
/// For how long it opens at first; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// For how long it opens at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Counts outages in a row, and lets nobody ask for a while when there are too many.
///
/// Closed, it lets everybody pass. After five outages in a row it is open for a second, give or take a quarter: nobody passes. Then
/// one may try; if that is an outage as well, it opens for twice as long, up to half a minute, and otherwise it closes.
/// What is no outage, such as a missing key, counts as an answer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outages: u32,
    /// How often it has opened since all was well.
    openings: u32,
    open_until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    /// Lets one pass, or says how long to wait.
    pub(super) fn admit(&self) -> Result<Pass, Duration> {
        let mut state = self.lock();
        let Some(until) = state.open_until else { return Ok(self.pass(false)) };
        let remaining = until.saturating_duration_since(Instant::now());
        if remaining.is_zero() && !state.probing {
            state.probing = true;
            return Ok(self.pass(true));
        }
        Err(remaining.max(FIRST_PAUSE))
    }

    /// For how long nobody passes yet, because nobody may try or somebody does; `None` when it is closed, or one may try.
    pub(super) fn open_for(&self) -> Option<Duration> {
        let state = self.lock();
        let remaining = state.open_until?.saturating_duration_since(Instant::now());
        if state.probing { Some(remaining.max(FIRST_PAUSE)) } else { Some(remaining).filter(|remaining| !remaining.is_zero()) }
    }

    fn pass(&self, probe: bool) -> Pass {
        Pass { breaker: self.clone(), probe }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to ask. Dropped without a word, it counts for nothing.
#[derive(Debug)]
pub(super) struct Pass {
    breaker: Breaker,
    probe: bool,
}

impl Pass {
    /// S3 has answered, but not everything has arrived yet: others may ask again, but the next outage opens the breaker anew.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.probe) {
            let mut state = self.breaker.lock();
            state.probing = false;
            state.open_until = None;
            state.outages = THRESHOLD - 1;
        }
    }

    /// All went well, or S3 gave an answer that is no outage.
    pub(super) fn succeeded(mut self) {
        self.probe = false;
        *self.breaker.lock() = State::default();
    }

    /// S3 was out of order.
    pub(super) fn failed(mut self) {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.breaker.lock();
        state.outages += 1;
        if probe || (state.open_until.is_none() && state.outages >= THRESHOLD) {
            state.open_until = Some(Instant::now() + jittered(pause(state.openings)));
            state.openings += 1;
            state.probing = false;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

fn pause(openings: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << openings.min(5)).min(LONGEST_PAUSE)
}

/// Between three quarters of `pause` and all of it, so that replicas do not all try at the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + rand::random::<f64>() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn five_outages_in_a_row_open_it_for_about_a_second() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD - 1);
        assert_eq!(breaker.open_for(), None);
        fail(&breaker, 1);
        let open_for = breaker.open_for().unwrap();
        assert!(open_for >= Duration::from_millis(750) && open_for <= FIRST_PAUSE, "{open_for:?}");
        assert!(breaker.admit().is_err());
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_between_outages_keeps_it_closed() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            fail(&breaker, THRESHOLD - 1);
            breaker.admit().unwrap().succeeded();
        }
        assert_eq!(breaker.open_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_one_may_try_at_a_time_and_its_success_closes_it() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(breaker.open_for(), None);
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err());
        assert_eq!(breaker.open_for(), Some(FIRST_PAUSE), "the others do not pass yet");
        probe.succeeded();
        assert!(breaker.admit().is_ok());
        fail(&breaker, THRESHOLD - 1);
        assert_eq!(breaker.open_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn every_failed_try_doubles_the_pause_up_to_half_a_minute() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        for expected in [2, 4, 8, 16, 30, 30] {
            tokio::time::advance(LONGEST_PAUSE).await;
            breaker.admit().unwrap().failed();
            let (open_for, expected) = (breaker.open_for().unwrap(), Duration::from_secs(expected));
            assert!(open_for >= expected.mul_f64(0.75) && open_for <= expected, "{open_for:?} of {expected:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_is_given_up_lets_another_one_try() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        tokio::time::advance(FIRST_PAUSE).await;
        drop(breaker.admit().unwrap());
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_rest_never_comes_opens_it_again_for_longer() {
        let breaker = Breaker::default();
        fail(&breaker, THRESHOLD);
        tokio::time::advance(FIRST_PAUSE).await;
        let mut probe = breaker.admit().unwrap();
        probe.answered();
        drop(breaker.admit().unwrap());
        probe.failed();
        assert!(breaker.open_for().unwrap() > FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_those_who_passed_before_it_opened_do_not_prolong_it() {
        let breaker = Breaker::default();
        let passes: Vec<Pass> = (0..50).map(|_| breaker.admit().unwrap()).collect();
        passes.into_iter().for_each(Pass::failed);
        assert!(breaker.open_for().unwrap() <= FIRST_PAUSE);
    }
}

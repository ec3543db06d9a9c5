//! How fast requests are answered, and from that how long one more would wait.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::busy::{Busy, Spell};

/// How much the newest call counts beside all before it. The last twenty or so decide.
const WEIGHT: f64 = 0.1;

/// So much of a recent call's time is forgotten with each newer one, where the longest counts.
const FADING: f64 = 0.05;
/// Behind a running call others wait for so long at most before they begin, if calls take as long as they do lately.
const AHEAD: f64 = 1e-3;
/// Where a recent call has taken longer than this, none is sent ahead: one that waits behind such a call could go to another worker.
const CALM: f64 = 20e-3;
/// So many calls are sent ahead at most.
const MOST_AHEAD: usize = 32;

/// The calls that run and the smoothed time of those that were answered.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    busy: Busy,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until something has been answered.
    known: Option<Known>,
    running: Vec<(u64, Instant)>,
    begun: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    call_secs: f64,
    /// Less than that of a call where requests are answered together.
    request_secs: f64,
    /// About as much as the longest of the recent ones has taken.
    longest_secs: f64,
}

/// A worker's call that runs; once it is answered, the next one. Dropping it without [`Call::answered`] leaves the pace as it was: how long a lost call would have taken is unknown.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pace: &'a Pace,
    number: u64,
    begin: Instant,
    _spell: Spell<'a>,
}

/// How it would go for a request that comes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// How long those before it keep the workers busy.
    pub(crate) queue: Duration,
    /// Until a worker is free at all.
    pub(crate) busy: Duration,
    /// How long its own call takes.
    pub(crate) call: Duration,
}

impl Forecast {
    /// Until a worker takes it up.
    pub(crate) fn wait(&self) -> Duration {
        self.queue + self.busy
    }
}

impl Pace {
    /// Notes that a worker has begun a call.
    pub(crate) fn begin(&self, begin: Instant) -> Call<'_> {
        let mut state = self.lock();
        let number = state.begun;
        state.begun += 1;
        state.running.push((number, begin));
        Call { pace: self, number, begin, _spell: self.busy.begin() }
    }

    /// What a request can expect that comes `now`, behind `queued` others, where there are so many workers.
    pub(crate) fn forecast(&self, queued: usize, workers: usize, now: Instant) -> Forecast {
        let state = self.lock();
        let known = state.known.unwrap_or(Known { call_secs: 0.0, request_secs: 0.0, longest_secs: 0.0 });
        let queue_secs = as_float(queued) * known.request_secs / as_float(workers.max(1));
        let call = Duration::from_secs_f64(known.call_secs);
        let are_all_busy = state.running.len() >= workers;
        let busy = state.running.iter().map(|(_, begin)| left(now.saturating_duration_since(*begin), call)).min();
        Forecast { queue: Duration::from_secs_f64(queue_secs), busy: busy.filter(|_| are_all_busy).unwrap_or_default(), call }
    }

    /// A worker is at work, until what is returned is dropped, with what tells nothing of how fast requests are answered.
    pub(crate) fn begin_other_work(&self) -> Spell<'_> {
        self.busy.begin()
    }

    /// For how long workers have been at work by now, added up.
    pub(crate) fn busy(&self) -> Duration {
        self.busy.total()
    }

    /// How many more calls a worker may be sent that has been `given` some, of which the first has run for so long. None where nothing is
    /// known, where calls are slow, and where this one has taken longer than the others: they should find another worker.
    pub(crate) fn ahead(&self, given: usize, age: Duration) -> usize {
        let known = self.lock().known;
        known.map_or(0, |known| known.ahead(age)).saturating_sub(given.saturating_sub(1))
    }

    /// No code that could panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// Notes that the call has answered so many requests, and that the worker goes on with the next one.
    pub(crate) fn answered(&mut self, requests: usize, now: Instant) {
        let call_secs = now.saturating_duration_since(self.begin).as_secs_f64();
        let newest = Known { call_secs, request_secs: call_secs / as_float(requests.max(1)), longest_secs: call_secs };
        self.begin = now;
        let mut state = self.pace.lock();
        state.known = Some(state.known.map_or(newest, |known| known.smoothed(newest)));
        if let Some((_, begin)) = state.running.iter_mut().find(|(number, _)| *number == self.number) {
            *begin = now;
        }
    }

    /// How long it has run.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begin)
    }

    /// When it began.
    pub(crate) fn begin(&self) -> Instant {
        self.begin
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.pace.lock().running.retain(|(number, _)| *number != self.number);
    }
}

impl Known {
    fn smoothed(self, newest: Self) -> Self {
        let smooth = |before: f64, now: f64| before + WEIGHT * (now - before);
        Self {
            call_secs: smooth(self.call_secs, newest.call_secs),
            request_secs: smooth(self.request_secs, newest.request_secs),
            longest_secs: newest.call_secs.max(self.longest_secs * (1.0 - FADING)),
        }
    }

    /// How many calls may wait behind one that has run for so long.
    fn ahead(self, age: Duration) -> usize {
        let left = AHEAD - self.call_secs.max(age.as_secs_f64());
        if left < 0.0 || self.longest_secs > CALM {
            return 0;
        }
        // The first of them begins when the running one ends; each further one takes up its part of what is left.
        1 + (1..MOST_AHEAD).take_while(|further| as_float(*further) * self.call_secs <= left).count()
    }
}

/// How long a call of this age still takes. One that has taken longer than usual is expected to take as long again.
fn left(age: Duration, usual: Duration) -> Duration {
    usual.checked_sub(age).unwrap_or(age)
}

fn as_float(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn after_calls(calls: &[(u64, usize)], begin: Instant) -> Pace {
        let pace = Pace::default();
        for (millis, requests) in calls {
            pace.begin(begin).answered(*requests, begin + ms(*millis));
        }
        pace
    }

    #[test]
    fn nothing_is_expected_before_the_first_answer() {
        let expected = Forecast { queue: ms(0), busy: ms(0), call: ms(0) };
        assert_eq!(Pace::default().forecast(1000, 1, Instant::now()), expected);
    }

    #[test]
    fn a_queue_is_worth_the_time_of_its_requests_shared_by_the_workers() {
        let now = Instant::now();
        let pace = after_calls(&[(20, 1)], now);
        assert_eq!(pace.forecast(10, 2, now), Forecast { queue: ms(100), busy: ms(0), call: ms(20) });
        let batches = after_calls(&[(20, 4)], now);
        assert_eq!(batches.forecast(10, 1, now), Forecast { queue: ms(50), busy: ms(0), call: ms(20) });
    }

    #[test]
    fn newer_calls_count_more_and_one_alone_decides_nothing() {
        let now = Instant::now();
        let mut calls = vec![(10, 1); 50];
        calls.push((100, 1));
        assert_eq!(after_calls(&calls, now).forecast(0, 1, now).call, ms(19));
        calls.extend([(100, 1); 50]);
        assert!(after_calls(&calls, now).forecast(0, 1, now).call > ms(99));
    }

    #[test]
    fn calls_that_do_not_end_make_others_wait_once_no_worker_is_free() {
        let begin = Instant::now();
        let pace = after_calls(&[(20, 1)], begin);
        let first = pace.begin(begin);
        assert_eq!(pace.forecast(0, 2, begin + ms(5)).busy, ms(0), "another worker is free");
        let second = pace.begin(begin + ms(300));
        assert_eq!(pace.forecast(0, 2, begin + ms(305)).busy, ms(15), "the younger one ends as calls usually do");
        drop(second);
        assert_eq!(pace.forecast(0, 1, begin + ms(400)).busy, ms(400));
        drop(first);
        assert_eq!(pace.forecast(0, 1, begin + ms(400)), Forecast { queue: ms(0), busy: ms(0), call: ms(20) });
    }

    #[test]
    fn as_many_calls_are_sent_ahead_as_begin_soon() {
        let ahead = |micros: u64, given, age: u64| {
            let now = Instant::now();
            let pace = Pace::default();
            pace.begin(now).answered(1, now + Duration::from_micros(micros));
            pace.ahead(given, Duration::from_micros(age))
        };
        assert_eq!(Pace::default().ahead(1, ms(0)), 0, "nothing is known yet");
        assert_eq!((ahead(10, 1, 0), ahead(10, 33, 0)), (MOST_AHEAD, 0));
        assert_eq!((ahead(200, 1, 0), ahead(200, 3, 0), ahead(200, 6, 0)), (5, 3, 0));
        assert_eq!((ahead(900, 1, 0), ahead(1100, 1, 0)), (1, 0), "slow calls are taken one by one");
        assert_eq!((ahead(200, 1, 700), ahead(200, 1, 1100)), (2, 0), "nothing is sent behind a call that drags on");
    }

    #[test]
    fn nothing_is_sent_ahead_where_some_calls_take_long() {
        let now = Instant::now();
        let pace = after_calls(&[(0, 1), (0, 1), (30, 1)], now);
        (0..7).for_each(|_| pace.begin(now).answered(1, now));
        assert_eq!(pace.ahead(1, ms(0)), 0);
        (0..20).for_each(|_| pace.begin(now).answered(1, now));
        assert!(pace.ahead(1, ms(0)) > 0, "that was long ago");
    }
}

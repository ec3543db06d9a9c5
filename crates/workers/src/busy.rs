//! How long the serving workers have been at work, all of them together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time that workers have had something to do, added up.
#[derive(Debug)]
pub(crate) struct Busy {
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// That of the spells that are over.
    ended: Duration,
    /// How many are not.
    open: u32,
    /// When those began, after the origin and added up.
    begins: Duration,
}

/// A worker is at work until this is dropped.
#[derive(Debug)]
pub(crate) struct Spell<'a> {
    busy: &'a Busy,
    begin: Duration,
}

impl Default for Busy {
    fn default() -> Self {
        Self { origin: Instant::now(), state: Mutex::default() }
    }
}

impl Busy {
    /// One more worker begins to be at work.
    pub(crate) fn begin(&self) -> Spell<'_> {
        let begin = self.origin.elapsed();
        let mut state = self.lock();
        state.open += 1;
        state.begins += begin;
        Spell { busy: self, begin }
    }

    /// For how long workers have been at work by now.
    pub(crate) fn total(&self) -> Duration {
        let state = self.lock();
        let now = self.origin.elapsed();
        state.ended + (now * state.open).saturating_sub(state.begins)
    }

    /// No code that could panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spell<'_> {
    fn drop(&mut self) {
        let mut state = self.busy.lock();
        state.ended += self.busy.origin.elapsed().saturating_sub(self.begin);
        state.open -= 1;
        state.begins -= self.begin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn spells_count_while_they_last_and_ever_after() {
        let busy = Busy::default();
        let pass = async |seconds| tokio::time::advance(Duration::from_secs(seconds)).await;
        pass(5).await;
        let first = busy.begin();
        pass(2).await;
        let second = busy.begin();
        pass(3).await;
        assert_eq!(busy.total(), Duration::from_secs(5 + 3));
        drop(first);
        pass(1).await;
        assert_eq!(busy.total(), Duration::from_secs(5 + 4));
        drop(second);
        pass(9).await;
        assert_eq!(busy.total(), Duration::from_secs(9));
    }
}

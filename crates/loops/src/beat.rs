//! The signs of life that a loop gives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Ailing, Ailment, lock};

/// What a loop says of itself: that it goes on, and how long its next step may take. Cheap to clone.
///
/// A new beat is silent: nothing is expected of the loop before its first word.
#[derive(Debug, Clone)]
pub struct Beat {
    pulse: Arc<Pulse>,
}

impl Beat {
    pub(crate) fn of(pulse: Arc<Pulse>) -> Self {
        Self { pulse }
    }

    /// A sign of life. The next one is due when what comes now has taken as long as it may, and the loop's patience is over, too.
    pub fn within(&self, limit: Duration) {
        lock(&self.pulse.state).due = Instant::now().checked_add(limit.saturating_add(self.pulse.patience));
    }

    /// Nothing is due: the loop waits for what may never come, such as a request.
    pub fn idle(&self) {
        lock(&self.pulse.state).due = None;
    }

    /// Gives a sign of life, and sleeps.
    pub async fn rest(&self, pause: Duration) {
        self.within(pause);
        tokio::time::sleep(pause).await;
    }

    /// Says that the loop comes to its end now, although nobody has told it to. Nothing is due any more.
    pub fn finish(&self) {
        self.tell_to_end();
    }

    /// Whether the loop has been told to end.
    #[must_use]
    pub fn is_told_to_end(&self) -> bool {
        *self.pulse.ending.borrow()
    }

    /// Waits until the loop is told to end.
    pub async fn told_to_end(&self) {
        // The sender lives as long as the pulse, and this holds it.
        let _ = self.pulse.ending.subscribe().wait_for(|ending| *ending).await;
    }

    pub(crate) fn tell_to_end(&self) {
        self.idle();
        self.pulse.ending.send_replace(true);
    }

    pub(crate) fn name(&self) -> &'static str {
        self.pulse.name
    }

    /// The loop has failed; it is to be run again after `wait`.
    pub(crate) fn failed(&self, wait: Duration) {
        let now = Instant::now();
        let mut state = lock(&self.pulse.state);
        let first = state.failing.map_or(now, |(first, _)| first);
        state.failing = Some((first, now));
        state.due = now.checked_add(wait.saturating_add(self.pulse.patience));
    }

    /// The failures are over: the loop has gone on for long enough.
    pub(crate) fn recovered(&self) {
        lock(&self.pulse.state).failing = None;
    }
}

/// Where the signs of life of one loop are kept.
#[derive(Debug)]
pub(crate) struct Pulse {
    name: &'static str,
    patience: Duration,
    state: Mutex<State>,
    ending: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// When the next sign of life is due at the latest.
    due: Option<Instant>,
    /// When the first and the last failure were of those that have followed each other.
    failing: Option<(Instant, Instant)>,
}

impl Pulse {
    pub(crate) fn new(name: &'static str, patience: Duration) -> Self {
        Self { name, patience, state: Mutex::default(), ending: watch::Sender::new(false) }
    }

    pub(crate) fn ailing(&self) -> Option<Ailing> {
        let now = Instant::now();
        let state = lock(&self.state);
        let late = state.due.filter(|due| *due <= now).map(|due| Ailment::StandsStill(now - due));
        let failing = state.failing.map(|(first, last)| last - first).filter(|long| *long > self.patience);
        late.or(failing.map(Ailment::KeepsFailing)).map(|ailment| Ailing { name: self.name, ailment })
    }
}

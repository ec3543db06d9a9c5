//! Loops that last as long as a server does: supervised, so that a panic costs a moment and not the loop, and watched, so that one
//! which stands still is missed.
//!
//! [`Loops`] starts them and knows how they are, [`Beat`] is how a loop says that it goes on, and [`Looping`] is who owns it.
//! [`panics`] makes each panic one record in the log.

mod beat;
mod keep;
mod looping;
pub mod panics;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub use beat::Beat;
use beat::Pulse;
use keep::{keep_running, run_once};
pub use looping::Looping;
use tokio::runtime::Handle;

/// How long a loop may be silent beyond what its work may take, unless another time is given.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Every long-lived loop of a server. Cheap to clone; the default has the usual [`PATIENCE`].
#[derive(Clone)]
pub struct Loops {
    shared: Arc<Shared>,
}

struct Shared {
    patience: Duration,
    pulses: Mutex<Vec<Weak<Pulse>>>,
    restarts: Mutex<BTreeMap<&'static str, u64>>,
}

/// A loop that does not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailing {
    /// The loop's name.
    pub name: &'static str,
    /// What is the matter with it.
    pub ailment: Ailment,
}

/// What can be the matter with a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// It was due to show a sign of life so long ago.
    StandsStill(Duration),
    /// It has failed again and again for so long.
    KeepsFailing(Duration),
}

impl Loops {
    /// Loops that may be silent for `patience` beyond what they have said that their work may take.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { shared: Arc::new(Shared { patience, pulses: Mutex::default(), restarts: Mutex::default() }) }
    }

    /// Starts a loop on the runtime, and again, after longer and longer waits, whenever it panics or ends though nobody has told it to
    /// and it has not said [`Beat::finish`]. `run` begins anew each time: what must outlive a failure is kept outside.
    pub fn start<F, Fut>(&self, name: &'static str, run: F) -> Looping
    where
        F: FnMut(Beat) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.start_on(&Handle::current(), name, run)
    }

    /// Does as [`Loops::start`], on another runtime.
    pub fn start_on<F, Fut>(&self, runtime: &Handle, name: &'static str, run: F) -> Looping
    where
        F: FnMut(Beat) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let beat = self.beat(name);
        Looping::spawn(runtime, beat.clone(), keep_running(self.clone(), beat, run))
    }

    /// Starts what must not begin anew: when it panics, or ends as [`Loops::start`] does not allow, that is counted and
    /// `otherwise` is called.
    pub fn start_once<Fut>(
        &self,
        name: &'static str,
        run: impl FnOnce(Beat) -> Fut + Send + 'static,
        otherwise: impl FnOnce() + Send + 'static,
    ) -> Looping
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let beat = self.beat(name);
        Looping::spawn(&Handle::current(), beat.clone(), run_once(self.clone(), beat, run, otherwise))
    }

    /// The pulse of a loop that runs on a thread of its own. It is watched until the beat and its clones are dropped.
    #[must_use]
    pub fn beat(&self, name: &'static str) -> Beat {
        let pulse = Arc::new(Pulse::new(name, self.shared.patience));
        lock(&self.shared.restarts).entry(name).or_default();
        let mut pulses = lock(&self.shared.pulses);
        pulses.retain(|pulse| pulse.strong_count() > 0);
        pulses.push(Arc::downgrade(&pulse));
        Beat::of(pulse)
    }

    /// Counts a failure of the loop `name`, which goes on.
    pub fn note_restart(&self, name: &'static str) {
        *lock(&self.shared.restarts).entry(name).or_default() += 1;
    }

    /// How often which loop has failed and gone on.
    #[must_use]
    pub fn restarts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.restarts).clone()
    }

    /// Has the log told, from a thread of its own, of each loop that no longer does its work, and of each that does so again. Ends with
    /// the last clone.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the system refuses another thread.
    pub fn watch(&self) -> io::Result<()> {
        watch::start(Arc::downgrade(&self.shared))
    }

    /// The loops that do not do their work, each name once. Empty while all is well.
    #[must_use]
    pub fn ailing(&self) -> Vec<Ailing> {
        let pulses: Vec<_> = lock(&self.shared.pulses).iter().filter_map(Weak::upgrade).collect();
        let mut found: Vec<_> = pulses.iter().filter_map(|pulse| pulse.ailing()).collect();
        found.sort_by_key(|ailing| ailing.name);
        found.dedup_by_key(|ailing| ailing.name);
        found
    }
}

impl Default for Loops {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Loops").field("patience", &self.shared.patience).finish_non_exhaustive()
    }
}

impl fmt::Display for Ailing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.ailment {
            Ailment::StandsStill(late) => write!(formatter, "the loop `{name}` stands still; it is late by {} s", late.as_secs()),
            Ailment::KeepsFailing(since) => write!(formatter, "the loop `{name}` has kept failing for {} s", since.as_secs()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

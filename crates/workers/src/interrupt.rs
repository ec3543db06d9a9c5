//! Ending a call from outside: what is wanted, and the steps by which it is had.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

/// How long a worker may take after SIGTERM before SIGKILL follows.
const TERM_PATIENCE: Duration = Duration::from_secs(2);

/// What is wanted of a running job beyond its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interrupt {
    /// Nothing: go on.
    #[default]
    None,
    /// Tell the script to stop; end the worker if it has not done so within the grace.
    Cancel,
    /// Kill the worker now: nothing it does counts any more.
    Kill,
}

/// The steps by which a cancelled call is ended: told, SIGTERM, SIGKILL.
#[derive(Default)]
pub(crate) struct Ladder {
    /// When the next step is due; `None` before the first.
    pub(crate) next: Option<Instant>,
    terminated: bool,
}

impl Ladder {
    pub(crate) fn begin(&mut self, grace: Duration) {
        self.next = Some(Instant::now() + grace);
    }

    /// The signal of this step; `None` when only killing is left.
    pub(crate) fn climb(&mut self) -> Option<Signal> {
        self.next = Some(Instant::now() + TERM_PATIENCE);
        (!std::mem::replace(&mut self.terminated, true)).then_some(Signal::TERM)
    }
}

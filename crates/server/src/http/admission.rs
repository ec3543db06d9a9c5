//! How many connections are served at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many more connections than `--max-connections` are listened to, each for one request: probes of the server's health are
/// answered there, and everything else is refused. Without them a crowd of clients would look like a dead server.
pub(crate) const RESERVE: usize = 16;
/// So many of those that find not even that are told so, at once; the rest are closed without a word.
const REFUSALS: usize = 64;

/// The connections of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    max: usize,
    served: AtomicUsize,
    probing: AtomicUsize,
    refused: AtomicUsize,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It is served.
    Fully(Place),
    /// It may ask how the server is, once.
    ForProbes(Place),
    /// It is told that there is no room.
    Refused(Place),
    /// It is closed.
    Ignored,
}

/// Room for one connection; dropping it makes the room free.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    taken_from: fn(&Shared) -> &AtomicUsize,
}

impl Admission {
    /// With room for so many.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared { max, ..Shared::default() }))
    }

    /// How many may be open at once.
    pub(crate) fn max(&self) -> usize {
        self.0.max
    }

    /// How many are open, those for probes included.
    pub(crate) fn open(&self) -> usize {
        self.0.served.load(Ordering::Relaxed) + self.0.probing.load(Ordering::Relaxed)
    }

    /// Finds room for one more connection.
    pub(crate) fn admit(&self) -> Admitted {
        let served = || self.place(|shared| &shared.served, self.0.max).map(Admitted::Fully);
        let probing = || self.place(|shared| &shared.probing, RESERVE).map(Admitted::ForProbes);
        let refused = || self.place(|shared| &shared.refused, REFUSALS).map(Admitted::Refused);
        served().or_else(probing).or_else(refused).unwrap_or(Admitted::Ignored)
    }

    fn place(&self, taken_from: fn(&Shared) -> &AtomicUsize, max: usize) -> Option<Place> {
        let one_more = |taken| (taken < max).then_some(taken + 1);
        taken_from(&self.0).try_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place { shared: Arc::clone(&self.0), taken_from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.taken_from)(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_come_probes_then_refusals_then_nothing() {
        let admission = Admission::new(2);
        let all: Vec<_> = (0..2 + RESERVE + REFUSALS + 3).map(|_| admission.admit()).collect();
        let count = |is: fn(&Admitted) -> bool| all.iter().filter(|admitted| is(admitted)).count();
        assert_eq!(count(|admitted| matches!(admitted, Admitted::Fully(_))), 2);
        assert_eq!(count(|admitted| matches!(admitted, Admitted::ForProbes(_))), RESERVE);
        assert_eq!(count(|admitted| matches!(admitted, Admitted::Refused(_))), REFUSALS);
        assert_eq!(count(|admitted| matches!(admitted, Admitted::Ignored)), 3);
        assert_eq!(admission.open(), 2 + RESERVE);
        drop(all);
        assert_eq!(admission.open(), 0);
        assert!(matches!(admission.admit(), Admitted::Fully(_)));
    }
}

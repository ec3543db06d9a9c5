//! How many workers have been lost, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::exit::Reason;

/// Counters, one for each [`Reason`]. They only rise.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    counts: [AtomicU64; Reason::ALL.len()],
}

impl Losses {
    pub(crate) fn note(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What has been counted, in the order of [`Reason::ALL`].
    pub(crate) fn by_reason(&self) -> Vec<(Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.counts[reason as usize].load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let losses = Losses::default();
        Reason::ALL.into_iter().for_each(|reason| losses.note(reason));
        losses.note(Reason::LoadFailed);
        let expected = Reason::ALL.map(|reason| (reason, if reason == Reason::LoadFailed { 2 } else { 1 }));
        assert_eq!(losses.by_reason(), expected);
    }
}

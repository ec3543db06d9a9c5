//! The parts of an object, and who takes them.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The parts of an object that nobody has taken yet: a run of them, taken from both ends.
pub(super) struct Parts {
    size: u64,
    pub(super) part_bytes: u64,
    open: Mutex<Range<u64>>,
    all_taken: watch::Sender<bool>,
}

impl Parts {
    /// All parts of an object of `size` bytes, each of `part_bytes` but the last one.
    pub(super) fn new(size: u64, part_bytes: u64) -> Self {
        Self { size, part_bytes, open: Mutex::new(0..size.div_ceil(part_bytes)), all_taken: watch::Sender::new(size == 0) }
    }

    /// How many there are, taken or not.
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.size.div_ceil(self.part_bytes)).unwrap_or(usize::MAX)
    }

    /// Takes the first one that is left: its number, and its bytes.
    pub(super) fn first(&self) -> Option<(usize, Range<u64>)> {
        self.take(Iterator::next)
    }

    /// Takes the last one that is left.
    pub(super) fn last(&self) -> Option<(usize, Range<u64>)> {
        self.take(DoubleEndedIterator::next_back)
    }

    /// Waits until no part is left to take.
    pub(super) async fn all_taken(&self) {
        // It cannot fail: the sender is in `self`.
        drop(self.all_taken.subscribe().wait_for(|all_taken| *all_taken).await);
    }

    fn take(&self, from: impl FnOnce(&mut Range<u64>) -> Option<u64>) -> Option<(usize, Range<u64>)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let index = from(&mut open)?;
        if open.is_empty() {
            self.all_taken.send_replace(true);
        }
        let start = index * self.part_bytes;
        Some((usize::try_from(index).ok()?, start..(start + self.part_bytes).min(self.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_taken_from_both_ends_cover_everything_once() {
        for size in [0, 1, 9, 10, 11, 95, 100] {
            let (parts, mut covered) = (Parts::new(size, 10), 0);
            let mut turn = 0;
            while let Some((index, range)) = if turn % 3 == 0 { parts.first() } else { parts.last() } {
                assert_eq!(range.start, index as u64 * 10);
                covered += range.end - range.start;
                turn += 1;
            }
            assert_eq!((covered, turn), (size, parts.count()), "{size} bytes");
        }
    }
}

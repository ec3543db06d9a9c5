//! Room on the disk, which is there before the first byte is written.

use std::io;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::index::Claim;
use crate::source::Urgency;
use crate::{FileProblem, SharedIoError};

/// Room on the disk for what is to be written. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Room {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Shared {
    /// Room for so many bytes, at the expense of files that nobody uses.
    ///
    /// It is given out in the order in which it was asked for, so that small files do not starve a large one. Who fetches ahead
    /// does not stand in line, and is refused if there is one.
    pub(super) async fn room(self: &Arc<Self>, bytes: u64, urgency: Urgency) -> Result<Room, FileProblem> {
        let deadline = Instant::now() + self.settings.patience;
        loop {
            let claim = match urgency {
                Urgency::Ahead => self.claim_at_once(bytes),
                Urgency::Wanted => timeout_at(deadline, self.claim_in_turn(bytes)).await.ok(),
            };
            let claim = claim.ok_or(FileProblem::CacheFull)?;
            if let Some(room) =
                self.make_good(claim, bytes).await.map_err(|error| FileProblem::CacheDisk(SharedIoError::new(error)))?
            {
                return Ok(room);
            }
        }
    }

    fn claim_at_once(&self, bytes: u64) -> Option<Claim> {
        let _turn = self.turn.try_lock().ok()?;
        self.state().index.claim(bytes, Urgency::Ahead)
    }

    async fn claim_in_turn(&self, bytes: u64) -> Claim {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(claim) = self.state().index.claim(bytes, Urgency::Wanted) {
                return claim;
            }
            // What becomes free before this waits is remembered.
            self.freed.notified().await;
        }
    }

    /// Removes what stands in the way of a claim. The work is done even if nobody waits for it any more.
    async fn make_good(self: &Arc<Self>, claim: Claim, bytes: u64) -> io::Result<Option<Room>> {
        if claim.victims.is_empty() {
            return self.evict(&claim, bytes);
        }
        let shared = self.clone();
        tokio::task::spawn_blocking(move || shared.evict(&claim, bytes)).await.map_err(io::Error::other)?
    }

    fn evict(self: &Arc<Self>, claim: &Claim, bytes: u64) -> io::Result<Option<Room>> {
        let (stuck, failure) = self.unlink(&claim.victims);
        let settled = self.state().index.settle(claim, &stuck);
        self.freed.notify_one();
        self.counters.evictions.add((claim.victims.len() - stuck.len()) as u64);
        match (settled, failure) {
            (true, _) => Ok(Some(Room::new(self.clone(), bytes))),
            (false, Some(error)) => Err(error),
            (false, None) => Ok(None),
        }
    }

    /// Evicts because the disk is full, although the cache may not be. False if there was nothing to evict.
    pub(super) fn evict_for_the_disk(self: &Arc<Self>, bytes: u64) -> io::Result<bool> {
        /// Files take up whole blocks.
        const SLACK_BYTES: u64 = 64 << 10;
        let victims = self.state().index.take_out_oldest(bytes.saturating_add(SLACK_BYTES));
        self.remove(&victims)?;
        self.counters.evictions.add(victims.len() as u64);
        Ok(!victims.is_empty())
    }

    /// Removes what does not fit any more, because the capacity is smaller than it was in an earlier life.
    pub(super) fn shrink_to_capacity(self: &Arc<Self>) -> io::Result<()> {
        let claim = self.state().index.claim(0, Urgency::Wanted);
        claim.map_or(Ok(()), |claim| self.evict(&claim, 0).map(drop))
    }
}

impl Room {
    /// Room that was reserved already.
    pub(super) fn new(shared: Arc<Shared>, bytes: u64) -> Self {
        Self { shared, bytes }
    }

    /// Whose it is and how much. It stays reserved.
    pub(super) fn into_parts(mut self) -> (Arc<Shared>, u64) {
        (self.shared.clone(), std::mem::take(&mut self.bytes))
    }

    /// What was written into it counts for itself now.
    pub(super) fn spent(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.state().index.give_back(self.bytes);
            self.shared.freed.notify_one();
        }
    }
}

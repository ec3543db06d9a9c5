//! Copies: how they come into use, and how they are removed.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::kept::Kept;
use super::name::FileId;
use super::room::Room;
use crate::source::{ObjectAddress, Urgency};

/// A copy that somebody uses. As long as this or a clone of it exists, the file is neither removed nor replaced.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    pub(super) pin: Arc<Pin>,
}

/// What keeps a file from being removed.
pub(super) struct Pin {
    shared: Arc<Shared>,
    pub(super) kept: Arc<Kept>,
}

impl Cached {
    /// Where its bytes are. Read only.
    pub(crate) fn path(&self) -> &Path {
        &self.pin.kept.path
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.pin.kept.info.size
    }

    /// Its entity tag, as S3 writes it.
    pub(crate) fn etag(&self) -> &str {
        &self.pin.kept.info.etag
    }

    /// Whether it is still there, unchanged: see [`Kept::is_intact`].
    pub(super) fn is_intact(&self) -> bool {
        self.pin.kept.is_intact()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let unused = self.shared.state().index.unpin(self.kept.id);
        self.shared.freed.notify_one();
        // A failure has been reported by then, and the file is tried again when its room is needed.
        let _ = self.shared.remove(unused.as_slice());
    }
}

impl Shared {
    /// A pin that the index knows of already.
    pub(super) fn pinned(self: &Arc<Self>, kept: Arc<Kept>) -> Cached {
        Cached { pin: Arc::new(Pin { shared: self.clone(), kept }) }
    }

    /// Turns room into a file, which is in use.
    pub(super) fn keep(self: &Arc<Self>, kept: Arc<Kept>, room: Room, asked: u64, checked: Instant) -> Cached {
        let former = {
            let mut state = self.state();
            let ahead = state.flights.get(&kept.object).is_some_and(|flight| !flight.wanted);
            state.index.keep(kept.clone(), asked, checked, ahead)
        };
        room.spent();
        // A failure has been reported by then, and the file is tried again when its room is needed.
        let _ = self.remove(former.as_slice());
        self.pinned(kept)
    }

    /// The copy of an object, in use, and whether its bytes are known to be right.
    pub(super) fn copy(self: &Arc<Self>, object: &ObjectAddress, urgency: Urgency) -> Option<(Cached, bool)> {
        let mut state = self.state();
        let (kept, verified) = state.index.current(object).map(|entry| (entry.kept.clone(), entry.verified))?;
        state.index.pin(kept.id, urgency);
        Some((self.pinned(kept), verified))
    }

    /// Whether a copy needs no question now.
    pub(super) fn is_fresh(&self, cached: &Cached) -> bool {
        let state = self.state();
        let entry = state.index.current(&cached.pin.kept.object);
        entry.is_some_and(|entry| entry.is_fresh(self.settings.revalidate, u64::MAX, Instant::now()))
    }

    /// Removes a copy that is not what it was.
    pub(super) fn discard(self: &Arc<Self>, cached: &Cached, what: &str) {
        tracing::warn!(file = %cached.path().display(), "a cached file {what}; removed it, it is fetched again");
        let taken_out = self.state().index.take_out(cached.pin.kept.id);
        // A failure has been reported by then, and the file is tried again when its room is needed.
        let _ = self.remove(taken_out.as_slice());
    }

    /// Removes files that were taken out of use.
    pub(super) fn remove(self: &Arc<Self>, files: &[Arc<Kept>]) -> io::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let (stuck, failure) = self.unlink(files);
        {
            let mut state = self.state();
            for file in files {
                if stuck.contains(&file.id) { state.index.stuck(file.id) } else { state.index.removed(file.id) }
            }
        }
        self.freed.notify_one();
        failure.map_or(Ok(()), Err)
    }

    /// Which files the disk did not let go of, and why.
    pub(super) fn unlink(self: &Arc<Self>, files: &[Arc<Kept>]) -> (Vec<FileId>, Option<io::Error>) {
        let folder = self.folder();
        let (mut stuck, mut failure) = (Vec::new(), None);
        for file in files {
            if let Err(error) = file.remove(&folder) {
                self.note_failure(&error);
                stuck.push(file.id);
                failure = Some(error);
            }
        }
        (stuck, failure)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kept.path.fmt(formatter)
    }
}

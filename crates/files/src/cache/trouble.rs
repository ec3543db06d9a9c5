//! What to do about a disk that fails: say so, and find out when it works again.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::part::Litter;
use super::{Shared, lock};

/// How often a disk that failed is tried, whether or not somebody wants something of it.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(3);

/// The disk's last failure, until it works again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    text: Option<String>,
    /// Whether somebody tries the disk from time to time.
    probing: bool,
}

impl Trouble {
    pub(super) fn text(&self) -> Option<String> {
        self.known().text.clone()
    }

    /// The disk works.
    pub(super) fn clear(&self) {
        self.known().text = None;
    }

    /// Notes a failure. True if the caller, who can, has to see to it that the disk is tried.
    fn set(&self, text: String, can_probe: bool) -> bool {
        let mut known = self.known();
        known.text = Some(text);
        let must_probe = can_probe && !known.probing;
        known.probing |= must_probe;
        must_probe
    }

    /// Whether the disk has to be tried still.
    fn goes_on(&self) -> bool {
        let mut known = self.known();
        known.probing = known.text.is_some();
        known.probing
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Notes that the disk failed, and tries it from then on until it works.
    pub(super) fn note_failure(self: &Arc<Self>, error: &io::Error) {
        tracing::warn!(%error, "the cache's disk failed");
        self.counters.disk_failures.add(1);
        let runtime = Handle::try_current().ok();
        let must_probe = self.trouble.set(format!("the cache's disk failed: {error}"), runtime.is_some());
        if let Some(runtime) = runtime.filter(|_| must_probe) {
            runtime.spawn(probe_until_it_works(Arc::downgrade(self)));
        }
    }

    fn probe(self: &Arc<Self>) {
        let works = self.restore_folder().and_then(|()| self.folder().probe());
        if let Err(error) = works {
            return tracing::debug!(%error, "the cache's disk still fails");
        }
        self.trouble.clear();
        let litter = std::mem::take(&mut self.state().litter);
        for litter in litter {
            litter.clear(self);
        }
    }

    /// Makes the folder again if it was removed, moved or covered. What was in it is forgotten, and so is whatever is there instead.
    pub(super) fn restore_folder(self: &Arc<Self>) -> io::Result<()> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if folder.is_in_place() {
            return Ok(());
        }
        let new = lock::take(&self.settings.folder, Some(folder.lock()))?;
        for name in new.names()? {
            new.remove(&name)?;
        }
        tracing::warn!(folder = %new.path().display(), "the cache's folder was gone and has been made again");
        *folder = new.into();
        self.state().index.forget_files();
        self.freed.notify_one();
        Ok(())
    }

    /// Remembers what the disk did not let go of, until it works again.
    pub(super) fn remember_litter(self: &Arc<Self>, litter: Litter, error: &io::Error) {
        self.state().litter.push(litter);
        self.note_failure(error);
    }
}

/// Ends with the cache as well.
async fn probe_until_it_works(cache: Weak<Shared>) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let Some(shared) = cache.upgrade().filter(|shared| shared.trouble.goes_on()) else { return };
        if let Err(error) = tokio::task::spawn_blocking(move || shared.probe()).await {
            tracing::error!(%error, "a trial of the cache's disk broke off");
        }
    }
}

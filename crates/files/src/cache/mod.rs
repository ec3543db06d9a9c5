//! The cache: copies of objects on the disk, within a bound, each fetched once for all who want it.
//!
//! [`Cache::fetch`] gives a [`Cached`], and as long as that exists the file stays where it is. [`Index`] keeps the accounts,
//! [`Flight`] is a fetch that several may wait for, [`Room`](room::Room) is space on the disk that was paid for in evictions before the first
//! byte is written, [`Part`](part::Part) is a file that is being written, and [`Folder`] is the disk.
//!
//! No wrong byte is served: a file gets its name once it is complete and its length and checksum are right; each use compares its
//! status with what was noted then; and what an earlier life left is read through before its first use. So nothing has to be synced,
//! and a loss of power costs copies and nothing else.
//!
//! The bound holds for the lengths of all files in the folder, beside an empty lock and a byte while a disk that failed is probed.
//! What was removed while somebody has it open takes up space until it is closed, which no accounts here can see.
//!
//! The mutexes are never held across an await. The folder's comes before the state's.

mod about;
mod checksum;
mod copies;
mod counters;
mod download;
mod flight;
mod folder;
mod index;
mod kept;
mod leftovers;
mod lock;
mod name;
mod part;
mod quota;
mod room;
mod settings;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

pub(crate) use copies::Cached;
pub use counters::CacheCounters;
pub(crate) use quota::RequestQuota;
pub use settings::{CacheSettings, InvalidRevalidate, Revalidate};

use crate::FileProblem;
use crate::source::{ObjectAddress, Source, Urgency};
use counters::Counters;
use flight::{Approach, Flight, Landing};
use folder::Folder;
use index::Index;
use name::FileId;
use part::Litter;
use trouble::Trouble;

/// Copies of objects on the disk. Cheap to clone; the clones are the same cache.
#[derive(Clone)]
pub(crate) struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    settings: CacheSettings,
    source: Arc<dyn Source>,
    folder: Mutex<Arc<Folder>>,
    state: Mutex<State>,
    next_id: AtomicU64,
    /// Whose turn it is to claim room: it is given out in the order in which it was asked for.
    turn: tokio::sync::Mutex<()>,
    /// Something may have become free.
    freed: Notify,
    counters: Counters,
    trouble: Trouble,
}

struct State {
    index: Index,
    flights: HashMap<ObjectAddress, Flight>,
    /// What the disk did not let go of.
    litter: Vec<Litter>,
}

impl Cache {
    /// Takes a folder that no other process uses, with what an earlier life left there. Objects are fetched from `source`.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] that names the folder if it cannot be made, locked, read or written.
    pub(crate) fn open(settings: CacheSettings, source: Arc<dyn Source>) -> io::Result<Self> {
        let root = settings.folder.clone();
        Self::take_over(settings, source).map_err(|error| {
            let advice = "name a folder that the server may write (`--cache-dir`)";
            io::Error::new(error.kind(), format!("the cache's folder `{}` cannot be used: {error}; {advice}", root.display()))
        })
    }

    fn take_over(settings: CacheSettings, source: Arc<dyn Source>) -> io::Result<Self> {
        let folder = lock::take(&settings.folder, None)?;
        folder.probe()?;
        let leftovers = leftovers::take_over(&folder, SystemTime::now())?;
        let next_id = leftovers::next_id(&leftovers);
        let mut index = Index::new(settings.capacity);
        for left in leftovers {
            index.adopt(left.kept.into(), left.age.and_then(|age| Instant::now().checked_sub(age)));
        }
        let shared = Arc::new(Shared {
            settings,
            source,
            folder: Mutex::new(folder.into()),
            state: Mutex::new(State { index, flights: HashMap::new(), litter: Vec::new() }),
            next_id: AtomicU64::new(next_id),
            turn: tokio::sync::Mutex::new(()),
            freed: Notify::new(),
            counters: Counters::default(),
            trouble: Trouble::default(),
        });
        shared.shrink_to_capacity()?;
        Ok(Self { shared })
    }

    /// A copy of an object that is as fresh as [`Revalidate`] demands, fetched if need be.
    ///
    /// A use of a copy that needs no question costs a lock and a system call. Otherwise the first who comes starts a fetch, and all
    /// who come meanwhile share it and its failure. Whoever loses interest drops the future; the fetch ends with the last of them.
    ///
    /// Who fetches [`Urgency::Ahead`] does not wait for room, and nobody who waits for an object is told of a failure that somebody
    /// had who fetched ahead, if trying again may help.
    ///
    /// # Errors
    ///
    /// What [`Source`] says, and [`FileProblem::TooLarge`] and [`FileProblem::TooLargeTogether`] before the first byte;
    /// [`FileProblem::CacheFull`] if other files in use left no room for as long as is waited for it; [`FileProblem::CacheDisk`]; and
    /// [`FileProblem::DeadlinePassed`].
    pub(crate) async fn fetch(
        &self,
        object: &ObjectAddress,
        urgency: Urgency,
        request: &RequestQuota,
    ) -> Result<Cached, FileProblem> {
        let landed = match self.shared.approach(object, urgency, None) {
            (_, Approach::Copy(cached)) if cached.is_intact() => Ok(Landing { cached, downloaded: false }),
            (arrived, approach) => {
                let limit = self.shared.settings.fetch_timeout;
                let fetched = self.shared.fetch_from(approach, object, urgency, request, arrived);
                timeout(limit, fetched).await.unwrap_or(Err(FileProblem::DeadlinePassed(limit)))
            }
        };
        let counters = &self.shared.counters;
        match &landed {
            Ok(landing) if !landing.downloaded => counters.hits.add(1),
            _ => counters.misses.add(1),
        }
        let cached = landed?.cached;
        request.admit(object, cached.pin.kept.bytes, self.shared.settings.capacity)?;
        Ok(cached)
    }

    /// Fetches an object that may be wanted soon.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::fetch`]; [`FileProblem::CacheFull`] means that there was no room for something that nobody waits for.
    pub(crate) async fn prefetch(&self, object: &ObjectAddress) -> Result<(), FileProblem> {
        self.fetch(object, Urgency::Ahead, &RequestQuota::default()).await.map(drop)
    }

    /// What the cache has done and what it holds.
    pub(crate) fn counters(&self) -> CacheCounters {
        let (bytes, files) = {
            let state = self.shared.state();
            (state.index.bytes(), state.index.len() as u64)
        };
        let counters = &self.shared.counters;
        CacheCounters {
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            revalidations: counters.revalidations.get(),
            evictions: counters.evictions.get(),
            bytes,
            files,
            bytes_fetched: counters.bytes_fetched.get(),
            disk_failures: counters.disk_failures.get(),
        }
    }

    /// The disk's last failure, until it works again.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.trouble.text()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> Arc<Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next_id(&self) -> FileId {
        FileId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(formatter)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cache").field("settings", &self.settings).finish_non_exhaustive()
    }
}

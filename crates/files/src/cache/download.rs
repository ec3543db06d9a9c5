//! What a fetch does, from the copy that may be there to the one that is used.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::about::About;
use super::flight::{Landing, Phase};
use super::name::FileId;
use super::part::Part;
use super::room::Room;
use super::settings::MAX_FILE_FLAG;
use super::{Cached, Shared};
use crate::source::{Asked, Incoming, ObjectAddress, ObjectInfo, Urgency};
use crate::{FileProblem, SharedIoError};

/// A fetch under way.
pub(super) struct Download {
    shared: Arc<Shared>,
    object: ObjectAddress,
    urgency: Urgency,
    flight: FileId,
    phase: watch::Sender<Phase>,
}

/// When S3 was asked.
#[derive(Clone, Copy)]
struct Question {
    moment: u64,
    time: Instant,
    date: SystemTime,
}

impl Download {
    pub(super) fn new(
        shared: Arc<Shared>,
        object: ObjectAddress,
        urgency: Urgency,
        flight: FileId,
        phase: watch::Sender<Phase>,
    ) -> Self {
        Self { shared, object, urgency, flight, phase }
    }

    /// Fetches, within the time there is for it, and tells all who wait.
    pub(super) async fn run(self) {
        let limit = self.shared.settings.fetch_timeout;
        let result = timeout(limit, self.fetch()).await.unwrap_or(Err(FileProblem::DeadlinePassed(limit)));
        self.shared.land(&self.object, self.flight);
        self.phase.send_replace(Phase::Landed(result));
    }

    async fn fetch(&self) -> Result<Landing, FileProblem> {
        let copy = self.verified_copy().await;
        if let Some(cached) = copy.as_ref().filter(|cached| self.shared.is_fresh(cached)) {
            return Ok(Landing { cached: cached.clone(), downloaded: false });
        }
        let (question, asked) = self.ask(copy.as_ref()).await;
        match (asked, copy) {
            (Ok(Asked::Unchanged), Some(cached)) => Ok(self.confirmed(cached, question)),
            (Ok(Asked::Found(incoming)), Some(cached)) if *incoming.info() == cached.pin.kept.info => {
                Ok(self.confirmed(cached, question))
            }
            (Ok(Asked::Found(incoming)), copy) => {
                self.replaced(copy);
                self.download(incoming, question).await
            }
            (Ok(Asked::Unchanged), None) => Err(unasked_for()),
            (Err(problem), copy) => {
                if matches!(problem, FileProblem::Missing | FileProblem::NoBucket) {
                    self.replaced(copy);
                }
                Err(problem)
            }
        }
    }

    /// The copy there is, if its bytes are right. What an earlier life left is read through first.
    async fn verified_copy(&self) -> Option<Cached> {
        let (cached, verified) = self.shared.copy(&self.object, self.urgency)?;
        if !cached.is_intact() {
            self.shared.discard(&cached, "was changed or removed");
            return None;
        }
        if verified {
            return Some(cached);
        }
        let (folder, copy) = (self.shared.folder(), cached.clone());
        let read = tokio::task::spawn_blocking(move || copy.pin.kept.has_its_bytes(&folder)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(true) => {
                self.shared.state().index.verify(cached.pin.kept.id);
                Some(cached)
            }
            Ok(false) => {
                self.shared.discard(&cached, "does not have the bytes that were fetched");
                None
            }
            Err(error) => {
                self.shared.note_failure(&error);
                self.shared.discard(&cached, "cannot be read");
                None
            }
        }
    }

    async fn ask(&self, copy: Option<&Cached>) -> (Question, Result<Asked, FileProblem>) {
        let moment = self.shared.state().index.next_moment();
        let question = Question { moment, time: Instant::now(), date: SystemTime::now() };
        self.phase.send_replace(Phase::Asking { conditional: copy.is_some(), since: moment });
        self.shared.counters.revalidations.add(u64::from(copy.is_some()));
        (question, self.shared.source.ask(&self.object, copy.map(Cached::etag), self.urgency).await)
    }

    fn confirmed(&self, cached: Cached, question: Question) -> Landing {
        self.shared.state().index.confirm(cached.pin.kept.id, question.moment, question.time);
        Landing { cached, downloaded: false }
    }

    /// The copy is no longer the object. It goes when those who use it are done; until then it takes up room.
    fn replaced(&self, copy: Option<Cached>) {
        if let Some(cached) = copy {
            // It is pinned, so nothing is to be removed yet.
            let _ = self.shared.state().index.retire(cached.pin.kept.id);
        }
    }

    /// Downloads; and once more if the object was replaced meanwhile, or the disk failed in a way that could be mended.
    async fn download(&self, incoming: Box<dyn Incoming>, question: Question) -> Result<Landing, FileProblem> {
        let size = incoming.info().size;
        match self.store(incoming, question).await {
            Err(FileProblem::CacheDisk(error)) if self.mend(error.get(), size).await => {}
            Err(FileProblem::Changed) => {}
            stored => return stored,
        }
        let (question, asked) = self.ask(None).await;
        match asked? {
            Asked::Found(incoming) => self.store(incoming, question).await,
            Asked::Unchanged => Err(unasked_for()),
        }
    }

    async fn store(&self, incoming: Box<dyn Incoming>, question: Question) -> Result<Landing, FileProblem> {
        let info = incoming.info().clone();
        let about = About::new(&self.object, &info, question.date);
        let bytes = self.bytes_needed(&info, &about)?;
        self.phase.send_replace(Phase::Arriving { bytes });
        let room = self.shared.room(bytes, self.urgency).await?;
        let stored = self.save(incoming, about, room, question).await;
        match &stored {
            Ok(_) => self.shared.trouble.clear(),
            Err(FileProblem::CacheDisk(error)) => self.shared.note_failure(error.get()),
            Err(_) => {}
        }
        Ok(Landing { cached: stored?, downloaded: true })
    }

    fn bytes_needed(&self, info: &ObjectInfo, about: &About) -> Result<u64, FileProblem> {
        let settings = &self.shared.settings;
        let size = info.size;
        // Where nobody limits objects, it is the cache that does.
        if size > settings.max_file && settings.max_file < settings.capacity {
            return Err(FileProblem::TooLarge { size, limit: settings.max_file, flag: MAX_FILE_FLAG });
        }
        let beside = about.to_bytes().map_err(|error| disk(error.into()))?.len() as u64;
        match size.checked_add(beside).filter(|bytes| *bytes <= settings.capacity) {
            Some(bytes) => Ok(bytes),
            None => Err(FileProblem::TooLarge { size, limit: settings.capacity.saturating_sub(beside), flag: "--cache-bytes" }),
        }
    }

    async fn save(&self, incoming: Box<dyn Incoming>, about: About, room: Room, question: Question) -> Result<Cached, FileProblem> {
        let part = Part::create(self.shared.folder(), self.shared.next_id(), room).map_err(disk)?;
        let crc64 = incoming.save(part.file()).await?;
        let (kept, room) = part.publish(about, crc64).map_err(disk)?;
        self.shared.counters.bytes_fetched.add(kept.info.size);
        Ok(self.shared.keep(Arc::new(kept), room, question.moment, question.time))
    }

    /// Does what can be done about a disk that failed. True if it is worth another try.
    async fn mend(&self, error: &io::Error, size: u64) -> bool {
        let shared = self.shared.clone();
        let mended = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => tokio::task::spawn_blocking(move || shared.evict_for_the_disk(size)).await,
            _ if error.kind() == io::ErrorKind::NotFound => {
                tokio::task::spawn_blocking(move || shared.restore_folder().map(|()| true)).await
            }
            _ => return false,
        };
        mended.map_err(io::Error::other).flatten().unwrap_or_else(|error| {
            self.shared.note_failure(&error);
            false
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.land(&self.object, self.flight);
    }
}

fn disk(error: io::Error) -> FileProblem {
    FileProblem::CacheDisk(SharedIoError::new(error))
}

fn unasked_for() -> FileProblem {
    FileProblem::Unavailable("it says that a copy is unchanged which nobody named".to_owned())
}

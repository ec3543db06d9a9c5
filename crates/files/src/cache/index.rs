//! The accounts: which files there are, who uses them, and how much room is left. Nothing here touches the disk.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::kept::Kept;
use super::name::FileId;
use super::settings::Revalidate;
use crate::source::{ObjectAddress, Urgency};

/// Which files there are. What is held and what is reserved never exceed the capacity together.
#[derive(Debug)]
pub(super) struct Index {
    capacity: u64,
    /// The bytes of all files, those on their way out included.
    held: u64,
    /// The bytes of what is being written or will be.
    reserved: u64,
    /// Counts arrivals, questions and uses, so that they have an order.
    moments: u64,
    files: HashMap<FileId, Entry>,
    current: HashMap<ObjectAddress, FileId>,
    /// The files that nobody uses and that may go, by when they were last used.
    idle: BTreeMap<u64, FileId>,
    idle_bytes: u64,
}

/// A file in the accounts.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kept: Arc<Kept>,
    /// Whether its bytes are known to be those that were fetched.
    pub(super) verified: bool,
    /// The moment of the last question whose answer was that this is the object.
    asked: u64,
    /// The time of it.
    checked: Option<Instant>,
    pins: usize,
    last_use: u64,
    standing: Standing,
    /// Whether it was fetched ahead and not used since.
    ahead: bool,
}

/// Whether a file may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It may be.
    Current,
    /// It may be by those who do already.
    Retired,
    /// It is being removed.
    Leaving,
}

/// Room that will be there once some files are removed.
#[derive(Debug)]
pub(super) struct Claim {
    bytes: u64,
    /// How much of it is reserved already.
    reserved: u64,
    /// What has to be removed from the disk first.
    pub(super) victims: Vec<Arc<Kept>>,
}

impl Index {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            held: 0,
            reserved: 0,
            moments: 0,
            files: HashMap::new(),
            current: HashMap::new(),
            idle: BTreeMap::new(),
            idle_bytes: 0,
        }
    }

    /// A moment later than all before.
    pub(super) fn next_moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// The bytes on the disk, those that are yet to be written included.
    pub(super) fn bytes(&self) -> u64 {
        self.held + self.reserved
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The copy of an object that is used from now on, if there is one.
    pub(super) fn current(&self, object: &ObjectAddress) -> Option<&Entry> {
        self.files.get(self.current.get(object)?)
    }

    /// Takes in a file that an earlier life left, as the one used last. What no longer fits has to be made to: see
    /// [`Index::claim`] with nothing.
    pub(super) fn adopt(&mut self, kept: Arc<Kept>, checked: Option<Instant>) {
        let id = kept.id;
        let entry = Entry { verified: false, ..self.entry(kept, 0, checked) };
        self.insert(entry);
        self.settle_down(id);
    }

    /// Turns room into a file, which is pinned once. Returns the former copy of the object if that has to be removed from the disk.
    pub(super) fn keep(&mut self, kept: Arc<Kept>, asked: u64, checked: Instant, ahead: bool) -> Option<Arc<Kept>> {
        let former = self.current.get(&kept.object).copied();
        let former = former.and_then(|id| self.retire(id));
        self.reserved -= kept.bytes;
        let entry = Entry { pins: 1, ahead, ..self.entry(kept, asked, Some(checked)) };
        self.insert(entry);
        former
    }

    fn entry(&mut self, kept: Arc<Kept>, asked: u64, checked: Option<Instant>) -> Entry {
        let last_use = self.next_moment();
        Entry { kept, verified: true, asked, checked, pins: 0, last_use, standing: Standing::Current, ahead: false }
    }

    fn insert(&mut self, entry: Entry) {
        self.held += entry.kept.bytes;
        self.current.insert(entry.kept.object.clone(), entry.kept.id);
        self.files.insert(entry.kept.id, entry);
    }

    /// Keeps a file from being removed until [`Index::unpin`], and counts as a use.
    pub(super) fn pin(&mut self, id: FileId, urgency: Urgency) {
        self.stir(id);
        let moment = self.next_moment();
        if let Some(entry) = self.files.get_mut(&id) {
            entry.pins += 1;
            entry.last_use = moment;
            entry.ahead &= urgency == Urgency::Ahead;
        }
    }

    /// Ends a use. Returns the file if it has to be removed from the disk.
    pub(super) fn unpin(&mut self, id: FileId) -> Option<Arc<Kept>> {
        let entry = self.files.get_mut(&id)?;
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 && entry.standing == Standing::Retired {
            return self.take_out(id);
        }
        self.settle_down(id);
        None
    }

    /// Notes that S3 was asked and said that this is the object.
    pub(super) fn confirm(&mut self, id: FileId, asked: u64, checked: Instant) {
        if let Some(entry) = self.files.get_mut(&id) {
            entry.asked = entry.asked.max(asked);
            entry.checked = Some(checked);
        }
    }

    /// Notes that a file's bytes are those that were fetched.
    pub(super) fn verify(&mut self, id: FileId) {
        if let Some(entry) = self.files.get_mut(&id) {
            entry.verified = true;
        }
    }

    /// Hands a file out no more. Returns it if nobody uses it, so that it has to be removed from the disk.
    pub(super) fn retire(&mut self, id: FileId) -> Option<Arc<Kept>> {
        self.forget_current(id);
        let entry = self.files.get_mut(&id).filter(|entry| entry.standing == Standing::Current)?;
        entry.standing = Standing::Retired;
        if entry.pins == 0 { self.take_out(id) } else { None }
    }

    /// Takes a file out of use, even if somebody uses it, because it has to be removed from the disk. `None` if it is already.
    pub(super) fn take_out(&mut self, id: FileId) -> Option<Arc<Kept>> {
        self.forget_current(id);
        self.stir(id);
        let entry = self.files.get_mut(&id).filter(|entry| entry.standing != Standing::Leaving)?;
        entry.standing = Standing::Leaving;
        Some(entry.kept.clone())
    }

    /// The file has been removed from the disk.
    pub(super) fn removed(&mut self, id: FileId) {
        if let Some(entry) = self.files.remove(&id) {
            self.held -= entry.kept.bytes;
        }
    }

    /// The file could not be removed from the disk: it goes on counting, and is the next to be tried.
    pub(super) fn stuck(&mut self, id: FileId) {
        if let Some(entry) = self.files.get_mut(&id) {
            entry.standing = Standing::Retired;
            self.settle_down(id);
        }
    }

    /// Claims room, at the expense of the files that were not used for longest. `None` if there is not enough, even so.
    ///
    /// Who fetches ahead does not drive out what was fetched ahead and has not been used.
    pub(super) fn claim(&mut self, bytes: u64, urgency: Urgency) -> Option<Claim> {
        let free = self.free();
        if bytes.saturating_sub(free) > self.idle_bytes {
            return None;
        }
        let excess = self.bytes().saturating_sub(self.capacity);
        let victims = self.oldest(excess + bytes.saturating_sub(free), urgency)?;
        let reserved = bytes.min(free);
        self.reserved += reserved;
        let victims = victims.into_iter().filter_map(|id| self.take_out(id)).collect();
        Some(Claim { bytes, reserved, victims })
    }

    /// Makes a claim good: the removed files' room becomes the claimant's in the same moment. False if it does not suffice because
    /// some could not be removed; the claim is then given back.
    pub(super) fn settle(&mut self, claim: &Claim, stuck: &[FileId]) -> bool {
        for victim in &claim.victims {
            if stuck.contains(&victim.id) { self.stuck(victim.id) } else { self.removed(victim.id) }
        }
        let missing = claim.bytes - claim.reserved;
        let enough = self.free() >= missing;
        if enough {
            self.reserved += missing
        } else {
            self.reserved -= claim.reserved
        }
        enough
    }

    /// Gives room back.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// Takes the files out of use that were not used for longest, until they have this many bytes together or there are no more.
    pub(super) fn take_out_oldest(&mut self, bytes: u64) -> Vec<Arc<Kept>> {
        let victims = self.oldest(bytes.min(self.idle_bytes), Urgency::Wanted).unwrap_or_default();
        victims.into_iter().filter_map(|id| self.take_out(id)).collect()
    }

    /// All files are gone, as when their folder was removed. What is reserved stays so.
    pub(super) fn forget_files(&mut self) {
        (self.held, self.idle_bytes) = (0, 0);
        self.files.clear();
        self.current.clear();
        self.idle.clear();
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.bytes())
    }

    fn oldest(&self, bytes: u64, urgency: Urgency) -> Option<Vec<FileId>> {
        let mut victims = Vec::new();
        let mut sum = 0;
        let entries = self.idle.values().filter_map(|id| self.files.get(id));
        for entry in entries.filter(|entry| urgency == Urgency::Wanted || !entry.ahead) {
            if sum >= bytes {
                break;
            }
            sum += entry.kept.bytes;
            victims.push(entry.kept.id);
        }
        (sum >= bytes).then_some(victims)
    }

    fn forget_current(&mut self, id: FileId) {
        if let Some(entry) = self.files.get(&id)
            && self.current.get(&entry.kept.object) == Some(&id)
        {
            self.current.remove(&entry.kept.object);
        }
    }

    /// The file is no longer one that may go.
    fn stir(&mut self, id: FileId) {
        if let Some(entry) = self.files.get(&id)
            && self.idle.remove(&entry.last_use).is_some()
        {
            self.idle_bytes -= entry.kept.bytes;
        }
    }

    /// The file may go, if nobody uses it.
    fn settle_down(&mut self, id: FileId) {
        if let Some(entry) = self.files.get(&id)
            && entry.pins == 0
            && entry.standing != Standing::Leaving
            && self.idle.insert(entry.last_use, id).is_none()
        {
            self.idle_bytes += entry.kept.bytes;
        }
    }
}

impl Entry {
    /// Whether it may be used by somebody who arrived at that moment, without asking S3.
    pub(super) fn is_fresh(&self, revalidate: Revalidate, arrived: u64, now: Instant) -> bool {
        match revalidate {
            _ if self.kept.object.version_id.is_some() => true,
            Revalidate::Never => true,
            Revalidate::Always => self.asked > arrived,
            Revalidate::After(time) => self.checked.is_some_and(|checked| now.saturating_duration_since(checked) < time),
        }
    }
}

//! Shared memory that scripts leave behind: objects in `/dev/shm`, which last until somebody removes them.
//!
//! Nothing says who has made an object. But the kernel tells when one appears, and whoever has made it has it open or mapped then: so it
//! is noted as a worker's if one of that worker's processes holds it a moment after it has appeared, and nobody else does. When the worker
//! has ended, its objects are removed, if they are still the same and no process holds them any more.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dunnage_loops::{Beat, Loops};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::process::Pid;

use crate::kin::{self, ServerMark, WorkerMark};

/// Where the system keeps shared memory.
const FOLDER: &str = "/dev/shm";
/// The thread that watches it.
const LOOP: &str = "shared-memory";
/// How long it may take to find out who has made an object.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// How long the objects of a killed process may still be held by it.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long to wait between two looks at that.
const PAUSE: Duration = Duration::from_millis(5);
/// Room for the names of a few new objects.
const EVENT_BYTES: usize = 8 << 10;

/// What the workers of a server have made. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedMemory {
    objects: Arc<Mutex<HashMap<WorkerMark, Vec<Object>>>>,
}

/// An object, as it was when it was found: another one may bear its name later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    name: String,
    device: u64,
    inode: u64,
}

impl SharedMemory {
    /// Notes what the workers of the server make from now on, in memory and at the end of `notes`, from which [`sweep`] reads it should
    /// this server be killed. What cannot be watched is left where it is.
    pub(crate) fn watch(loops: &Loops, mark: ServerMark, notes: File) -> Self {
        let shared_memory = Self::default();
        let (watching, loops, beat) = (shared_memory.clone(), loops.clone(), loops.beat(LOOP));
        let thread = std::thread::Builder::new().name(LOOP.to_owned());
        let started =
            created_in(FOLDER).and_then(|events| thread.spawn(move || watching.follow(&events, &mark, notes, &loops, &beat)));
        if let Err(error) = started {
            tracing::warn!(%error, "shared memory that killed scripts leave will stay");
        }
        shared_memory
    }

    /// A panic costs one object its note, and is counted.
    fn follow(&self, events: &OwnedFd, mark: &ServerMark, mut notes: File, loops: &Loops, beat: &Beat) {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(events, &mut buffer);
        loop {
            let name = match reader.next() {
                Ok(event) => event.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return tracing::warn!(%error, "shared memory is no longer watched"),
            };
            beat.within(LOOK_LIMIT);
            if catch_unwind(AssertUnwindSafe(|| self.note(name, mark, &mut notes))).is_err() {
                loops.note_restart(LOOP);
            }
            beat.idle();
        }
    }

    fn note(&self, name: Option<String>, mark: &ServerMark, notes: &mut File) {
        let Some(object) = name.and_then(Object::named) else { return };
        let Some(worker) = maker(&object, mark) else { return };
        tracing::debug!(name = object.name, "a worker has made shared memory");
        if let Err(error) = writeln!(notes, "{} {} {}", object.device, object.inode, object.name) {
            tracing::warn!(%error, "shared memory of a worker could not be noted for the next server");
        }
        self.lock().entry(worker).or_default().push(object);
    }

    /// Removes what a worker has left, which has ended with all its processes.
    pub(crate) fn clear(&self, worker: &WorkerMark) {
        let left = self.lock().remove(worker).unwrap_or_default();
        let held: Vec<_> = left.into_iter().filter(|object| !object.remove()).collect();
        if !held.is_empty() {
            self.lock().insert(worker.clone(), held);
        }
    }

    /// Removes what all workers have left, once more what others held when their makers ended.
    pub(crate) fn clear_all(&self) {
        let workers: Vec<_> = self.lock().keys().cloned().collect();
        workers.iter().for_each(|worker| self.clear(worker));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerMark, Vec<Object>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what the workers of a killed server have left, by its notes.
pub(crate) fn sweep(notes: &Path) {
    let text = fs::read_to_string(notes).unwrap_or_default();
    for object in text.lines().filter_map(Object::parse) {
        object.remove();
    }
}

fn created_in(folder: &str) -> std::io::Result<OwnedFd> {
    let events = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&events, folder, WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
    Ok(events)
}

/// The worker whose processes hold an object; `None` where there is none, or others hold it too.
fn maker(object: &Object, mark: &ServerMark) -> Option<WorkerMark> {
    let mut holders = kin::pids().filter(|pid| object.is_held_by(*pid)).map(|pid| mark.worker_of(pid));
    let first = holders.next()??;
    holders.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

impl Object {
    /// The object of this name, if there is one and it is this user's.
    fn named(name: String) -> Option<Self> {
        // Of a link, these are those of the link itself.
        let metadata = fs::symlink_metadata(path(&name)).ok()?;
        let is_ours = metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw();
        is_ours.then(|| Self { name, device: metadata.dev(), inode: metadata.ino() })
    }

    /// As a line of the notes has it.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, ' ');
        let (device, inode) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let name = fields.next().filter(|name| !name.contains('/'))?.to_owned();
        Some(Self { name, device, inode })
    }

    fn is(&self, metadata: &Metadata) -> bool {
        (metadata.dev(), metadata.ino()) == (self.device, self.inode)
    }

    /// Whether a process has it open or mapped. What others' processes hold cannot be seen.
    fn is_held_by(&self, pid: Pid) -> bool {
        let pid = pid.as_raw_nonzero();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        // Only these are looked at closer: a file elsewhere may lie on a disk that does not answer.
        let shared = descriptors.filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(FOLDER)));
        let mut open = shared.filter_map(|entry| fs::metadata(entry.path()).ok());
        open.any(|metadata| self.is(&metadata))
            || self.is_mapped_in(&fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default())
    }

    /// Whether it is among the mappings of a process, each a line: addresses, permissions, offset, device, inode, path.
    fn is_mapped_in(&self, maps: &str) -> bool {
        let device = format!("{:02x}:{:02x}", rustix::fs::major(self.device), rustix::fs::minor(self.device));
        let inode = self.inode.to_string();
        maps.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(3);
            fields.next() == Some(&device) && fields.next() == Some(&inode)
        })
    }

    /// Removes it unless it is held; whether it is done with. Another object of the same name is none of ours.
    fn remove(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Self::named(self.name.clone()).as_ref() == Some(self) {
            if kin::pids().any(|pid| self.is_held_by(pid)) {
                if Instant::now() > deadline {
                    return false;
                }
                std::thread::sleep(PAUSE);
                continue;
            }
            match fs::remove_file(path(&self.name)) {
                Ok(()) => tracing::info!(name = self.name, "shared memory that a worker had left was removed"),
                Err(error) => tracing::warn!(%error, name = self.name, "shared memory that a worker has left cannot be removed"),
            }
            return true;
        }
        true
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object with a name that nobody else has. It is removed when it is dropped.
    struct Made(tempfile::NamedTempFile);

    impl Made {
        fn new() -> Self {
            Self(tempfile::Builder::new().prefix("dunnage-test-").tempfile_in(FOLDER).unwrap())
        }

        fn object(&self) -> Object {
            Object::named(self.0.path().file_name().unwrap().to_str().unwrap().to_owned()).unwrap()
        }
    }

    #[test]
    fn an_object_is_removed_only_if_it_is_the_one_that_was_noted() {
        let made = Made::new();
        let object = made.object();
        let other = Object { inode: object.inode + 1, ..object.clone() };
        assert!(other.remove() && made.0.path().exists(), "another one bears its name");
        assert!(object.remove() && !made.0.path().exists());
        assert!(object.remove(), "it is gone");
    }

    #[test]
    fn an_object_that_another_process_holds_stays_until_it_does_not() {
        let made = Made::new();
        let object = made.object();
        let mut holder = std::process::Command::new("sleep").arg("60").stdin(made.0.reopen().unwrap()).spawn().unwrap();
        assert!(!object.remove() && made.0.path().exists());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(object.remove() && !made.0.path().exists());
    }

    #[test]
    fn notes_are_read_as_they_were_written() {
        let made = Made::new();
        let Object { name, device, inode } = made.object();
        assert_eq!(Object::parse(&format!("{device} {inode} {name}")), Some(made.object()));
        assert_eq!(["", "1 2", "1 x y", "1 2 ../etc/passwd"].map(Object::parse), [None, None, None, None]);
    }

    #[test]
    fn a_mapping_is_known_by_device_and_inode() {
        let object = Object { name: "a".to_owned(), device: rustix::fs::makedev(0, 0x1a), inode: 77 };
        assert!(object.is_mapped_in("7f0000000000-7f0000001000 rw-s 00000000 00:1a 77                         /dev/shm/a\n"));
        assert!(!object.is_mapped_in("7f0000000000-7f0000001000 rw-s 00000000 00:1b 77                         /dev/shm/a\n"));
        assert!(!object.is_mapped_in("7f0000000000-7f0000001000 rw-p 00000000 00:00 0\n"));
    }
}

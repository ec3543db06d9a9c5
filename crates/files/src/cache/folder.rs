//! One process's folder of cached files. Everything in it is reached by way of its descriptor, and nothing by way of a link.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::lock::Lock;

const OWNER_READS_AND_WRITES: Mode = Mode::RUSR.union(Mode::WUSR);
/// A file that is written to show that the disk works.
const PROBE: &str = "part-probe";

/// A folder that nobody else uses for as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    folder: OwnedFd,
    lock: Lock,
}

impl Folder {
    pub(super) fn new(path: PathBuf, folder: OwnedFd, lock: Lock) -> Self {
        Self { path, folder, lock }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Whether its path still leads to it. It does not after it was removed, moved or covered.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(there), Ok(here)) = (rustix::fs::lstat(&self.path), rustix::fs::fstat(&self.folder)) else { return false };
        (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    }

    /// A new, empty file. Whatever has its name is removed first.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match self.open_entry(name.as_ref(), flags, OWNER_READS_AND_WRITES) {
            Err(Errno::EXIST) => {
                self.remove(name.as_ref())?;
                Ok(self.open_entry(name.as_ref(), flags, OWNER_READS_AND_WRITES)?)
            }
            opened => Ok(opened?),
        }
    }

    /// A plain file that is there already, for reading.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.open_entry(name.as_ref(), flags, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        if kind == FileType::RegularFile { Ok(file) } else { Err(Errno::INVAL.into()) }
    }

    /// The contents of a plain file, if it is not larger than `limit`.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(Errno::FBIG.into()) } else { Ok(bytes) }
    }

    /// The status of whatever has this name.
    pub(super) fn status(&self, name: &str) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives a file another name. Whatever has it is replaced.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match rustix::fs::renameat(&self.folder, from, &self.folder, to) {
            Err(Errno::ISDIR) => {
                self.remove(to.as_ref())?;
                Ok(rustix::fs::renameat(&self.folder, from, &self.folder, to)?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Sees to it that nothing has this name.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => fs::remove_dir_all(self.path.join(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of everything in it.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let names = Dir::read_from(&self.folder)?.map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()));
        let names: Result<Vec<_>, Errno> = names.collect();
        Ok(names?.into_iter().filter(|name| name != "." && name != "..").collect())
    }

    /// Writes a byte and removes it again.
    pub(super) fn probe(&self) -> io::Result<()> {
        let written = self.create(PROBE).and_then(|mut file| file.write_all(b"1"));
        written.and(self.remove(PROBE.as_ref()))
    }

    /// Opens what stands in this folder itself. A name with more than one part would lead through links, so there is none.
    fn open_entry(&self, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File, Errno> {
        if name.as_bytes().contains(&b'/') || name == ".." {
            return Err(Errno::XDEV);
        }
        rustix::fs::openat(&self.folder, name, flags | OFlags::NOFOLLOW, mode).map(File::from)
    }
}

/// What tells a file from any other, and from itself after it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
}

impl Identity {
    /// The identity of a plain file, or `None` of anything else.
    pub(super) fn of(stat: &Stat) -> Option<Self> {
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        plain.then(|| Self { device: stat.st_dev, inode: stat.st_ino, size: crate::local::size(stat), modified })
    }

    /// Whether this path leads to it. The path is followed from the root, because that is what readers do.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        rustix::fs::lstat(path).is_ok_and(|stat| Self::of(&stat) == Some(*self))
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

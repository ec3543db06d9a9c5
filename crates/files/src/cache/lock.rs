//! Choosing a folder that no other process uses: the first free number below the root.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::folder::{Folder, Identity};

/// More processes than share a disk.
const MOST_FOLDERS: u32 = 1000;

/// A lock beside a folder, which the system lets go of when the process ends, however it ends.
///
/// It lies beside the folder and not in it, so that it outlasts the folder's removal.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    number: u32,
    path: PathBuf,
    file: std::sync::Arc<File>,
}

/// Takes the first folder below `root` that nobody uses, and makes what is not there yet, for the owner alone.
///
/// A process that starts again therefore finds the files of its earlier life, and replicas may share a root. Who holds a lock
/// from before keeps its number, unless that lock was removed as well.
pub(super) fn take(root: &Path, held: Option<&Lock>) -> io::Result<Folder> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let root = root.canonicalize()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_folder = rustix::fs::open(&root, flags, Mode::empty())?;
    let lock = match held.filter(|lock| lock.is_in_place()) {
        Some(lock) => lock.clone(),
        None => first_free(&root, &root_folder)?,
    };
    let folder = open_folder(&root_folder, &lock.number.to_string())?;
    Ok(Folder::new(root.join(lock.number.to_string()), folder, lock))
}

fn first_free(root: &Path, root_folder: &OwnedFd) -> io::Result<Lock> {
    for number in 1..=MOST_FOLDERS {
        let name = format!("{number}.lock");
        let file = lock_file(root_folder, &name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => continue,
            Err(error) => return Err(error.into()),
        }
        let lock = Lock { number, path: root.join(name), file: file.into() };
        // Somebody may have removed it in between; then it keeps nobody out.
        if lock.is_in_place() {
            return Ok(lock);
        }
    }
    Err(io::Error::other(format!("all of its {MOST_FOLDERS} folders are in use; give each server a data folder of its own")))
}

/// Opens a lock file. What is there and is no plain file is no lock, and is replaced.
fn lock_file(root: &OwnedFd, name: &str) -> io::Result<File> {
    // Only for reading, so that the lock does not keep anybody from making the disk read-only.
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(root, name, flags, Mode::RUSR | Mode::WUSR).map(File::from);
    let is_plain = |file: &File| rustix::fs::fstat(file).is_ok_and(|stat| Identity::of(&stat).is_some());
    match open() {
        Ok(file) if is_plain(&file) => Ok(file),
        Ok(_) | Err(Errno::LOOP | Errno::NXIO) => {
            rustix::fs::unlinkat(root, name, AtFlags::empty())?;
            Ok(open()?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder for its owner alone. A link or a file in its place is replaced.
fn open_folder(root: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = || match rustix::fs::mkdirat(root, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(root, name, flags, Mode::empty()),
        Err(error) => Err(error),
    };
    let folder = match make() {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            rustix::fs::unlinkat(root, name, AtFlags::empty())?;
            make()?
        }
        made => made?,
    };
    rustix::fs::fchmod(&folder, Mode::RWXU)?;
    Ok(folder)
}

impl Lock {
    fn is_in_place(&self) -> bool {
        let (Ok(there), Ok(here)) = (rustix::fs::lstat(&self.path), rustix::fs::fstat(&*self.file)) else { return false };
        (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn each_takes_a_folder_of_its_own_and_finds_it_again() {
        let root = tempfile::tempdir().unwrap();
        let first = take(root.path(), None).unwrap();
        let second = take(root.path(), None).unwrap();
        assert_ne!(first.path(), second.path());
        assert_eq!(fs::metadata(first.path()).unwrap().mode() & 0o7777, 0o700);
        let path = first.path().to_owned();
        drop(first);
        assert_eq!(take(root.path(), None).unwrap().path(), path);
    }

    #[test]
    fn a_removed_folder_is_taken_again_under_the_same_number() {
        let root = tempfile::tempdir().unwrap();
        let first = take(root.path(), None).unwrap();
        fs::remove_dir_all(first.path()).unwrap();
        assert!(!first.is_in_place());
        let again = take(root.path(), Some(first.lock())).unwrap();
        assert_eq!(again.path(), first.path());
        drop(first);
        assert_ne!(take(root.path(), None).unwrap().path(), again.path(), "the lock is still held");
    }

    #[test]
    fn a_removed_root_is_made_again() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("a/b");
        let first = take(&root, None).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let again = take(&root, Some(first.lock())).unwrap();
        assert!(again.is_in_place());
        assert_ne!(take(&root, None).unwrap().path(), again.path(), "the new lock keeps others out");
    }

    #[test]
    fn what_lies_in_place_of_a_folder_or_a_lock_is_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(outer.path().join("elsewhere")).unwrap();
        symlink(outer.path().join("elsewhere"), root.join("1")).unwrap();
        symlink(outer.path().join("secret"), root.join("1.lock")).unwrap();
        let folder = take(&root, None).unwrap();
        folder.probe().unwrap();
        assert!(fs::symlink_metadata(root.join("1")).unwrap().is_dir());
        assert!(!outer.path().join("secret").exists());
        drop(folder);

        fs::remove_file(root.join("1.lock")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("1.lock"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        take(&root, None).unwrap();
        assert!(fs::symlink_metadata(root.join("1.lock")).unwrap().is_file());
    }

    #[test]
    fn a_file_in_place_of_the_root_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("root"), "").unwrap();
        assert!(take(&outer.path().join("root"), None).is_err());
    }
}

//! Local files, below one folder and nowhere else.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::FileProblem;

/// A folder out of which no path leads: not by `..`, not by a symbolic link.
#[derive(Debug)]
pub(crate) struct LocalRoot {
    folder: OwnedFd,
    path: PathBuf,
    /// The path as the operator wrote it, where it differs: clients may use either.
    written: PathBuf,
}

impl LocalRoot {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let written = std::path::absolute(path)?;
        let path = path.canonicalize()?;
        let folder = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { folder, path, written })
    }

    /// The path, size and etag of a file named by its absolute path.
    pub(crate) fn find(&self, path: &Path) -> Result<(PathBuf, u64, String), FileProblem> {
        let relative = match path.strip_prefix(&self.path).or_else(|_| path.strip_prefix(&self.written)) {
            Ok(relative) => relative.to_owned(),
            Err(_) => self.by_another_way(path)?,
        };
        if relative == Path::new("") {
            return Err(FileProblem::NotAFile);
        }
        let stat = stat_beneath(&self.folder, &relative)?;
        Ok((self.path.join(relative), size(&stat), etag(&stat)))
    }

    /// A path may lead below the root through links above it, as a shell's `$PWD` does. Nothing is opened to find out, and what
    /// does not lead there is not told from what does not exist.
    fn by_another_way(&self, path: &Path) -> Result<PathBuf, FileProblem> {
        let real = path.canonicalize().map_err(|_| FileProblem::OutsideRoot)?;
        real.strip_prefix(&self.path).map(Path::to_owned).map_err(|_| FileProblem::OutsideRoot)
    }
}

/// The status of a plain file below `folder`, which can be read.
pub(crate) fn stat_beneath(folder: &OwnedFd, relative: &Path) -> Result<Stat, FileProblem> {
    // Non-blocking, so that a FIFO is refused and not waited on.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(folder, relative, flags, Mode::empty(), beneath)?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { Ok(stat) } else { Err(FileProblem::NotAFile) }
}

pub(crate) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Changes with the contents as far as the file system tells: inode, size and time of change.
pub(crate) fn etag(stat: &Stat) -> String {
    format!("{:x}-{:x}-{:x}.{:x}", stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, LocalRoot) {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("root/sub")).unwrap();
        fs::write(outer.path().join("root/sub/a.csv"), "1,2").unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        let root = LocalRoot::open(&outer.path().join("root")).unwrap();
        (outer, root)
    }

    #[test]
    fn a_file_below_the_root_is_found() {
        let (outer, root) = root();
        let (path, size, etag) = root.find(&outer.path().join("root/sub/a.csv")).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), size), ("1,2", 3));
        fs::write(&path, "1,2,3").unwrap();
        assert_ne!(root.find(&path).unwrap().2, etag);
    }

    #[test]
    fn a_file_is_found_by_a_way_through_links_above_the_root() {
        let (outer, root) = root();
        symlink(outer.path().join("root"), outer.path().join("way")).unwrap();
        assert_eq!(root.find(&outer.path().join("way/sub/a.csv")).unwrap().1, 3);
        symlink(outer.path(), outer.path().join("loop")).unwrap();
        assert!(matches!(root.find(&outer.path().join("loop/secret")), Err(FileProblem::OutsideRoot)));
    }

    #[test]
    fn nothing_outside_the_root_is_found() {
        let (outer, root) = root();
        symlink(outer.path().join("secret"), outer.path().join("root/link")).unwrap();
        symlink(outer.path(), outer.path().join("root/up")).unwrap();
        for path in ["secret", "root/link", "root/up/secret", "root/../secret", "rootless"] {
            let found = root.find(&outer.path().join(path));
            assert!(matches!(found, Err(FileProblem::OutsideRoot)), "{path}: {found:?}");
        }
        assert!(matches!(root.find(Path::new("/etc/passwd")), Err(FileProblem::OutsideRoot)));
    }

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let (outer, root) = root();
        let fifo = outer.path().join("root/fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [fifo, outer.path().join("root/sub"), outer.path().join("root")] {
            let found = root.find(&path);
            assert!(matches!(found, Err(FileProblem::NotAFile | FileProblem::Missing)), "{}: {found:?}", path.display());
        }
        assert!(matches!(root.find(&outer.path().join("root/none")), Err(FileProblem::Missing)));
    }
}

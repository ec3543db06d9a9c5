//! What lies in an artifact's folder, found without following or opening anything that is neither a file nor a folder.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::digest::Digest;
use super::manifest::Manifest;

/// How deeply an artifact may be nested.
const MAX_DEPTH: usize = 64;
/// How long a path within an artifact may be. S3 allows keys of 1024 bytes, and the artifact's name and a prefix stand before it.
const MAX_PATH_BYTES: usize = 700;

/// Nothing below the folder is reached by way of a link, even if one is put there meanwhile.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An open folder.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
}

/// Everything in a folder, in the order of the paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) folders: Vec<String>,
    pub(crate) files: Vec<FoundFile>,
}

/// A file, as the file system tells of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoundFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Inode, and the times of the last change, which no program can set back unnoticed.
    stamp: String,
}

impl Tree {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(folder, flags, Mode::empty())? })
    }

    /// Finds everything, `most` files and folders at most.
    ///
    /// # Errors
    ///
    /// [`SurveyError`] for the first thing that no artifact may hold.
    pub(crate) fn survey(&self, most: usize) -> Result<Survey, SurveyError> {
        let mut survey = Survey { folders: Vec::new(), files: Vec::new() };
        let mut waiting = vec![String::new()];
        while let Some(folder) = waiting.pop() {
            let before = survey.folders.len();
            self.list(&folder, &mut survey, most)?;
            waiting.extend_from_slice(&survey.folders[before..]);
        }
        survey.folders.sort_unstable();
        survey.files.sort_unstable();
        Ok(survey)
    }

    /// Opens a file that a survey has found.
    pub(crate) fn file(&self, path: &str) -> Result<File, SurveyError> {
        // Non-blocking, so that a FIFO in its place is refused and not waited on.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let unreadable = |errno: Errno| match errno {
            Errno::LOOP | Errno::NXIO | Errno::XDEV => SurveyError::NotPlain(path.to_owned()),
            other => SurveyError::Io { path: path.to_owned(), source: other.into() },
        };
        let file = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), BENEATH).map_err(unreadable)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(unreadable)?.st_mode);
        if kind == FileType::RegularFile { Ok(file.into()) } else { Err(SurveyError::NotPlain(path.to_owned())) }
    }

    /// Has every folder of a survey on disk, as far as what it lists goes.
    pub(crate) fn sync_folders(&self, survey: &Survey) -> Result<(), SurveyError> {
        for path in survey.folders.iter().map(String::as_str).chain([""]) {
            let failed = |source| SurveyError::Io { path: path.to_owned(), source };
            File::from(self.folder(path).map_err(failed)?).sync_all().map_err(failed)?;
        }
        Ok(())
    }

    /// Removes what a survey has found. What somebody is writing there just now may stay, and so may the folder it is in.
    pub(crate) fn remove(&self, found: &Survey) -> io::Result<()> {
        for file in &found.files {
            self.unlink(&file.path, AtFlags::empty())?;
        }
        // Folders stand before what they hold.
        found.folders.iter().rev().try_for_each(|folder| self.unlink(folder, AtFlags::REMOVEDIR))
    }

    fn unlink(&self, path: &str, flags: AtFlags) -> io::Result<()> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match rustix::fs::unlinkat(self.folder(folder)?, name, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), BENEATH)?)
    }

    fn list(&self, folder: &str, survey: &mut Survey, most: usize) -> Result<(), SurveyError> {
        let failed = |source| SurveyError::Io { path: folder.to_owned(), source };
        let opened = self.folder(folder).map_err(failed)?;
        for entry in Dir::read_from(&opened).map_err(|errno| failed(errno.into()))? {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if survey.len() == most {
                return Err(SurveyError::TooMany(most));
            }
            let path = path_below(folder, entry.file_name().to_bytes())?;
            let stat = rustix::fs::statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(|errno| SurveyError::Io { path: path.clone(), source: errno.into() })?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => survey.folders.push(path),
                FileType::RegularFile => survey.files.push(FoundFile::new(path, &stat)),
                _ => return Err(SurveyError::NotPlain(path)),
            }
        }
        Ok(())
    }
}

impl Survey {
    /// What is part of a manifest, as far as the names go, and what is not.
    pub(crate) fn split(self, manifest: &Manifest) -> (Self, Self) {
        let names: HashSet<&str> = manifest.files().iter().map(|file| file.path.as_str()).collect();
        let (files, more_files) = self.files.into_iter().partition(|file| names.contains(file.path.as_str()));
        let (folders, more_folders) = self.folders.into_iter().partition(|path| manifest.folders().binary_search(path).is_ok());
        (Self { folders, files }, Self { folders: more_folders, files: more_files })
    }

    /// One of the files, or else one of the folders.
    pub(crate) fn first(&self) -> Option<&str> {
        self.files.first().map(|file| &file.path).or_else(|| self.folders.first()).map(String::as_str)
    }

    /// How many files and folders there are.
    pub(crate) fn len(&self) -> usize {
        self.folders.len() + self.files.len()
    }

    /// How many bytes the files have together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Differs when anything has been changed, added or removed, as far as the file system tells; costs no reading.
    pub(crate) fn fingerprint(&self) -> Digest {
        let folders = self.folders.iter().map(|path| format!("{path}\0"));
        let files = self.files.iter().map(|file| format!("{}\0{}\0{}\0", file.path, file.size, file.stamp));
        Digest::of(folders.chain(files).collect::<String>().as_bytes())
    }
}

impl FoundFile {
    fn new(path: String, stat: &Stat) -> Self {
        let stamp =
            format!("{:x} {:x}.{:x} {:x}.{:x}", stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        Self { path, size: u64::try_from(stat.st_size).unwrap_or(0), stamp }
    }
}

fn path_below(folder: &str, name: &[u8]) -> Result<String, SurveyError> {
    let text = str::from_utf8(name).ok().filter(|text| !text.contains(char::is_control));
    let name = text.ok_or_else(|| SurveyError::NoText(String::from_utf8_lossy(name).into_owned()))?;
    let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    match path.len() {
        _ if path.split('/').count() > MAX_DEPTH => Err(SurveyError::TooDeep(path)),
        0..=MAX_PATH_BYTES => Ok(path),
        _ => Err(SurveyError::LongPath(path)),
    }
}

/// Why a folder is no artifact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    /// A link, a FIFO, a socket or a device.
    #[error("it holds `{}`, which is neither a file nor a folder", .0.escape_debug())]
    NotPlain(String),
    /// It could not be written down, or not be listed by S3, which answers in XML.
    #[error("it holds `{}`, whose name is no UTF-8 or has control characters", .0.escape_debug())]
    NoText(String),
    /// It could not be kept in a bucket.
    #[error("it holds `{}`, whose path has more than {MAX_PATH_BYTES} bytes", .0.escape_debug())]
    LongPath(String),
    /// Folders in folders.
    #[error("it is nested deeper than {MAX_DEPTH} folders, at `{}`", .0.escape_debug())]
    TooDeep(String),
    /// More than anybody would want to list.
    #[error("it holds more than {0} files and folders")]
    TooMany(usize),
    /// The disk failed, or permissions are missing.
    #[error("`{}` in it cannot be read", path.escape_debug())]
    Io {
        /// Which file or folder; empty for the artifact's own.
        path: String,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn survey(folder: &Path) -> Result<Survey, String> {
        Tree::open(folder).unwrap().survey(100).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_is_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/empty")).unwrap();
        fs::write(folder.path().join("b/z"), "12").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let found = survey(folder.path()).unwrap();
        assert_eq!(found.folders, ["b", "b/empty"]);
        let files: Vec<_> = found.files.iter().map(|file| (file.path.as_str(), file.size)).collect();
        assert_eq!((files, found.bytes(), found.len()), (vec![("a", 0), ("b/z", 2)], 2, 4));
    }

    #[test]
    fn the_fingerprint_is_that_of_this_very_state() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let print = || survey(folder.path()).unwrap().fingerprint();
        let first = print();
        assert_eq!(print(), first);
        fs::create_dir(folder.path().join("new")).unwrap();
        assert_ne!(print(), first);
        fs::remove_dir(folder.path().join("new")).unwrap();
        assert_eq!(print(), first);
        fs::remove_file(folder.path().join("a")).unwrap();
        assert_ne!(print(), first);
    }

    #[test]
    fn what_is_neither_a_file_nor_a_folder_is_refused_at_once() {
        for what in ["link", "fifo", "socket"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(what);
            match what {
                "link" => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
                "fifo" => rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
                _ => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            }
            assert!(survey(folder.path()).unwrap_err().contains(what));
            assert!(matches!(Tree::open(folder.path()).unwrap().file(what), Err(SurveyError::NotPlain(_))), "{what}");
        }
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("file"), "1").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("way")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        for path in ["way/file", "../file", "/etc/passwd"] {
            assert!(tree.file(path).is_err(), "{path}");
        }
        assert!(Tree::open(&folder.path().join("way")).is_err());
    }

    #[test]
    fn an_artifact_has_limits() {
        let folder = tempfile::tempdir().unwrap();
        let deep = |depth: usize| folder.path().join("d/".repeat(depth));
        fs::create_dir_all(deep(MAX_DEPTH)).unwrap();
        survey(folder.path()).unwrap();
        fs::create_dir(deep(MAX_DEPTH + 1)).unwrap();
        assert!(survey(folder.path()).unwrap_err().contains("deeper"));

        let folder = tempfile::tempdir().unwrap();
        let long = format!("{0}/{0}/{0}", "x".repeat(240));
        fs::create_dir_all(folder.path().join(&long)).unwrap();
        assert!(survey(folder.path()).unwrap_err().contains("more than 700 bytes"));

        for name in [&b"na\xFFme"[..], b"na\nme", b"na\x01me"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(OsStr::from_bytes(name)), "1").unwrap();
            let refused = survey(folder.path()).unwrap_err();
            assert!(refused.contains("UTF-8") && !refused.contains(char::is_control), "{refused}");
        }

        let folder = tempfile::tempdir().unwrap();
        (0..101).for_each(|number| fs::write(folder.path().join(number.to_string()), "").unwrap());
        assert!(survey(folder.path()).unwrap_err().contains("more than 100 files"));
    }
}

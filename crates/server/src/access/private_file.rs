//! Files with secrets: read only if they are nobody else's business, and known again by their stamps.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No list of tokens and no chain of certificates is longer.
const MAX_BYTES: u64 = 1 << 20;
/// What everybody on the machine may do with a file, as bits of its mode.
const READ_OR_WRITE_BY_OTHERS: u32 = 0o006;

/// Reads a whole file that others may neither read nor write.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let (file, metadata) = open(path)?;
    if metadata.mode() & READ_OR_WRITE_BY_OTHERS != 0 {
        return Err(FileProblem::OpenToOthers(path.to_owned()));
    }
    read_whole(path, file)
}

/// Reads a whole file that may be anybody's.
pub(super) fn read_public(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let (file, _) = open(path)?;
    read_whole(path, file)
}

fn open(path: &Path) -> Result<(File, Metadata), FileProblem> {
    let unreadable = |source| FileProblem::Unreadable { path: path.to_owned(), source };
    // Looked at before it is opened: opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileProblem::NoFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    Ok((file, metadata))
}

fn read_whole(path: &Path, file: File) -> Result<Vec<u8>, FileProblem> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    let read = read.map_err(|source| FileProblem::Unreadable { path: path.to_owned(), source })?;
    if read as u64 > MAX_BYTES { Err(FileProblem::TooLong(path.to_owned())) } else { Ok(bytes) }
}

/// What tells a file from the same file later on. A change of its mode counts, for it may be what makes the file readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    bytes: u64,
}

impl Stamp {
    /// The stamp of the file that is there now, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { device: metadata.dev(), inode: metadata.ino(), changed, bytes: metadata.len() })
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It is not there, or may not be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("`{}` is no ordinary file", .0.display())]
    NoFile(PathBuf),
    /// Everybody on the machine may read or write it.
    #[error("`{path}` is open to everybody on this machine; close it with `chmod o-rw {path}`", path = .0.display())]
    OpenToOthers(PathBuf),
    /// It has more than 1 MiB.
    #[error("`{}` is longer than 1 MiB", .0.display())]
    TooLong(PathBuf),
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path, mode: u32) -> PathBuf {
        let path = folder.join("secret");
        std::fs::write(&path, "hush").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_that_is_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o400, 0o600, 0o640, 0o660] {
            assert_eq!(read_private(&file(folder.path(), mode)).unwrap(), b"hush", "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o666] {
            let problem = read_private(&file(folder.path(), mode)).unwrap_err();
            assert!(matches!(problem, FileProblem::OpenToOthers(_)), "{mode:o}: {problem}");
            assert_eq!(read_public(&folder.path().join("secret")).unwrap(), b"hush", "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_ordinary_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/dev/zero")] {
            assert!(matches!(read_private(path), Err(FileProblem::NoFile(_))), "{}", path.display());
        }
        let long = folder.path().join("long");
        std::fs::write(&long, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(matches!(read_public(&long), Err(FileProblem::TooLong(_))));
        assert!(matches!(read_public(&folder.path().join("nowhere")), Err(FileProblem::Unreadable { .. })));
    }

    #[test]
    fn a_stamp_changes_with_the_file_and_with_who_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), 0o600);
        let first = Stamp::of(&path).unwrap();
        assert_eq!(Stamp::of(&path), Some(first));
        let other = folder.path().join("other");
        std::fs::write(&other, "HUSH").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&path), Some(first));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Stamp::of(&path), None);
    }
}

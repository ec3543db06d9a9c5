//! Folders full of whatever a script has left there.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How deeply an artifact may be nested.
const MAX_DEPTH: u32 = 64;

/// Writes out every file and folder below `folder`. Only plain files and folders may be there, and not too deep: a link could
/// point at something that is not part of the artifact.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    sync_below(folder, MAX_DEPTH)
}

fn sync_below(folder: &Path, depth: u32) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let below =
                depth.checked_sub(1).ok_or_else(|| io::Error::other(format!("the artifact is nested deeper than {MAX_DEPTH}")))?;
            sync_below(&entry.path(), below)?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        } else {
            let name = entry.file_name();
            let message = format!("the artifact holds `{}`, which is neither a file nor a folder", name.to_string_lossy());
            return Err(io::Error::other(message));
        }
    }
    File::open(folder)?.sync_all()
}

/// Removes a folder and everything in it; nothing happens if it is not there.
///
/// However deep it is: what a subfolder holds is moved up before the subfolder is removed, so that neither the stack nor the
/// number of open files grows with the depth.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let mut moved: u64 = 0;
    loop {
        let entries = match open_up(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let mut subfolders = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() { subfolders.push(entry.path()) } else { fs::remove_file(entry.path())? }
        }
        if subfolders.is_empty() {
            return fs::remove_dir(folder);
        }
        for subfolder in subfolders {
            for entry in open_up(&subfolder)? {
                moved += 1;
                fs::rename(entry?.path(), folder.join(format!(".removed-{moved}")))?;
            }
            fs::remove_dir(&subfolder)?;
        }
    }
}

/// Reads a folder, even if a script has taken its permissions away.
fn open_up(folder: &Path) -> io::Result<fs::ReadDir> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    fs::read_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_no_part_of_an_artifact() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(sync(folder.path()).unwrap_err().to_string().contains("link"));
    }

    #[test]
    fn an_artifact_is_not_nested_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let deep = |depth: usize| folder.path().join("d/".repeat(depth));
        fs::create_dir_all(deep(64)).unwrap();
        sync(folder.path()).unwrap();
        fs::create_dir(deep(65)).unwrap();
        assert!(sync(folder.path()).unwrap_err().to_string().contains("deeper"));
    }

    #[test]
    fn whatever_a_script_has_left_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("tree");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), "1").unwrap();
        fs::write(outer.path().join("kept"), "1").unwrap();
        std::os::unix::fs::symlink(outer.path(), folder.join("a/link")).unwrap();
        fs::set_permissions(folder.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists() && outer.path().join("kept").exists());
        remove(&folder).unwrap();
    }

    /// Deeper than any path may be long, and than a thread's stack could follow.
    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("tree");
        fs::create_dir(&folder).unwrap();
        let mut at = rustix::fs::open(&folder, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        }
        remove(&folder).unwrap();
        assert!(!folder.exists());
    }
}

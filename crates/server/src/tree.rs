//! Folders full of whatever a script has left there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a folder and everything in it; nothing happens if it is not there.
///
/// However deep it is: what a subfolder holds is moved up before the subfolder is removed, so that neither the stack nor the
/// number of open files grows with the depth.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        // What a link in its place points at is not ours.
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
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

    #[test]
    fn what_a_link_points_at_is_not_removed() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("kept")).unwrap();
        fs::write(outer.path().join("kept/file"), "1").unwrap();
        let link = outer.path().join("link");
        std::os::unix::fs::symlink("kept", &link).unwrap();
        remove(&link).unwrap();
        assert!(outer.path().join("kept/file").exists() && fs::symlink_metadata(&link).is_err());
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

//! Checking an artifact against its manifest, before a worker opens any of it.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::digest::Digest;
use super::manifest::{Manifest, ManifestError, ManifestFile};
use super::survey::{Survey, SurveyError, Tree};

/// How much more than it should an artifact may hold before it is not even listed.
const MOST_ADDITIONAL: usize = 10_000;

/// Compares an artifact with its manifest, and reads all of it unless it is in the state of `known`, which was found good before. Returns the
/// fingerprint of the state it is in.
///
/// Files and folders that are not part of it are removed, if the rest fits: scripts leave some there, and Python does so for every
/// module that is imported from there. So they lie in nobody's way, and nobody comes to load them. To forbid writing there instead would not
/// do: it would not stop who is root, and whoever copies an artifact to train it further would get files that cannot be written.
///
/// Blocks for as long as that takes.
///
/// # Errors
///
/// [`Damage`], the first that is found.
pub(crate) fn verify(folder: &Path, manifest: &Manifest, known: Option<Digest>) -> Result<Digest, Damage> {
    let tree = Tree::open(folder).map_err(Damage::Unreadable)?;
    let most = manifest.files().len() + manifest.folders().len() + MOST_ADDITIONAL;
    let (listed, additional) = tree.survey(most)?.split(manifest);
    compare(&listed, manifest)?;
    remove(folder, &tree, &additional)?;
    let fingerprint = listed.fingerprint();
    if known == Some(fingerprint) {
        return Ok(fingerprint);
    }
    for file in manifest.files() {
        check(&tree, file)?;
    }
    let (listed, _) = tree.survey(most)?.split(manifest);
    if listed.fingerprint() == fingerprint { Ok(fingerprint) } else { Err(Damage::Changing) }
}

fn remove(folder: &Path, tree: &Tree, additional: &Survey) -> Result<(), Damage> {
    let Some(first) = additional.first() else { return Ok(()) };
    tracing::info!(folder = %folder.display(), count = additional.len(), first, "what is not part of an artifact is removed from its folder");
    tree.remove(additional).map_err(|source| Damage::Irremovable { first: first.to_owned(), source })
}

/// Reads one file of an artifact and compares it with what the manifest says of it.
pub(crate) fn check(tree: &Tree, expected: &ManifestFile) -> Result<(), Damage> {
    let file = tree.file(&expected.path)?;
    let read = Digest::of_file(&file, expected.size);
    let found = read.map_err(|source| SurveyError::Io { path: expected.path.clone(), source })?;
    if found == (expected.sha256, true) { Ok(()) } else { Err(Damage::Altered(expected.path.clone())) }
}

/// Makes sure that everything in a manifest has been found, in its size.
pub(crate) fn compare(found: &Survey, manifest: &Manifest) -> Result<(), Damage> {
    let files: HashMap<&str, u64> = found.files.iter().map(|file| (file.path.as_str(), file.size)).collect();
    for ManifestFile { path, size: expected, .. } in manifest.files() {
        match files.get(path.as_str()) {
            None => return Err(Damage::Missing(path.clone())),
            Some(size) if size == expected => {}
            Some(size) => return Err(Damage::Size { path: path.clone(), size: *size, expected: *expected }),
        }
    }
    let missing = manifest.folders().iter().find(|path| found.folders.binary_search(path).is_err());
    missing.map_or(Ok(()), |path| Err(Damage::Missing(path.clone())))
}

/// How an artifact differs from what was committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// Something is not there.
    #[error("`{}` is missing", .0.escape_debug())]
    Missing(String),
    /// Something has been put there that cannot be removed.
    #[error("it holds `{}`, which was not part of it when it was committed, and cannot be removed", first.escape_debug())]
    Irremovable {
        /// One of them.
        first: String,
        /// Why.
        source: io::Error,
    },
    /// A file has grown or shrunk.
    #[error("`{}` has {size} bytes, expected {expected}", path.escape_debug())]
    Size {
        /// Which file.
        path: String,
        /// How long it is.
        size: u64,
        /// How long it was.
        expected: u64,
    },
    /// A file has other bytes.
    #[error("`{}` has other bytes than were committed", .0.escape_debug())]
    Altered(String),
    /// Somebody is at it.
    #[error("it was being changed while it was checked")]
    Changing,
    /// There is something in it that no artifact holds, or cannot be read.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// It says something else of itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It cannot be opened at all.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::seal::{ArtifactLimits, seal};
    use super::*;

    fn artifact() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("sub/empty")).unwrap();
        fs::write(folder.path().join("weights"), "1234").unwrap();
        fs::write(folder.path().join("sub/scale"), "5678").unwrap();
        let manifest = seal(folder.path(), ArtifactLimits::default()).unwrap().manifest;
        (folder, manifest)
    }

    #[test]
    fn an_artifact_that_nobody_has_touched_is_whole() {
        let (folder, manifest) = artifact();
        let first = verify(folder.path(), &manifest, None).unwrap();
        assert_eq!(verify(folder.path(), &manifest, None).unwrap(), first);
        assert_eq!(verify(folder.path(), &manifest, Some(first)).unwrap(), first);
    }

    #[test]
    fn what_is_not_part_of_an_artifact_is_removed_from_a_whole_one() {
        let (folder, manifest) = artifact();
        let first = verify(folder.path(), &manifest, None).unwrap();
        let table: [fn(&Path); 3] = [
            |at| fs::write(at.join("sub/more"), "1").unwrap(),
            |at| {
                fs::create_dir_all(at.join("sub/__pycache__/deeper")).unwrap();
                fs::write(at.join("sub/__pycache__/deeper/net.pyc"), "1").unwrap();
            },
            |at| fs::create_dir(at.join("sub/empty/more")).unwrap(),
        ];
        for put in table {
            for known in [None, Some(first)] {
                put(folder.path());
                assert_eq!(verify(folder.path(), &manifest, known).unwrap(), first, "the rest is as it was");
                let found = Tree::open(folder.path()).unwrap().survey(100).unwrap();
                assert_eq!(found.len(), manifest.files().len() + manifest.folders().len());
            }
        }
    }

    #[test]
    fn nothing_is_removed_from_a_damaged_artifact() {
        let (folder, manifest) = artifact();
        fs::write(folder.path().join("more"), "1").unwrap();
        fs::remove_file(folder.path().join("weights")).unwrap();
        assert!(matches!(verify(folder.path(), &manifest, None), Err(Damage::Missing(_))));
        assert!(folder.path().join("more").exists());
    }

    #[test]
    fn whatever_is_done_to_an_artifact_is_noticed_and_named() {
        type Tampering = fn(&Path);
        let table: [(Tampering, &str); 10] = [
            (|at| fs::write(at.join("weights"), "1235").unwrap(), "`weights` has other bytes"),
            (|at| fs::write(at.join("weights"), "123").unwrap(), "`weights` has 3 bytes, expected 4"),
            (|at| fs::write(at.join("weights"), "12345").unwrap(), "`weights` has 5 bytes, expected 4"),
            (|at| fs::remove_file(at.join("sub/scale")).unwrap(), "`sub/scale` is missing"),
            (|at| fs::rename(at.join("sub"), at.join("bus")).unwrap(), "`sub/scale` is missing"),
            (|at| fs::remove_dir(at.join("sub/empty")).unwrap(), "`sub/empty` is missing"),
            (|at| replace(&at.join("weights"), |path| symlink("sub/scale", path).unwrap()), "`weights`, which is neither"),
            (|at| mknodat(CWD, at.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap(), "`pipe`, which is neither"),
            (|at| replace(&at.join("weights"), |path| fs::create_dir(path).unwrap()), "`weights` is missing"),
            (|at| (0..=MOST_ADDITIONAL).for_each(|n| fs::write(at.join(n.to_string()), "").unwrap()), "holds more than"),
        ];
        for (tamper, message) in table {
            let (folder, manifest) = artifact();
            tamper(folder.path());
            let damage = verify(folder.path(), &manifest, None).unwrap_err().to_string();
            assert!(damage.contains(message), "{damage}");
        }
    }

    #[test]
    fn what_takes_the_place_of_a_file_after_the_listing_is_not_waited_for() {
        let (folder, manifest) = artifact();
        let tree = Tree::open(folder.path()).unwrap();
        let weights = folder.path().join("weights");
        let fifo = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let link = |path: &Path| symlink("/dev/zero", path).unwrap();
        for put in [&fifo as &dyn Fn(&Path), &link] {
            replace(&weights, put);
            let expected = manifest.files().iter().find(|file| file.path == "weights").unwrap();
            let damage = check(&tree, expected).unwrap_err().to_string();
            assert!(damage.contains("`weights`, which is neither"), "{damage}");
        }
    }

    fn replace(path: &Path, put: impl FnOnce(&Path)) {
        fs::remove_file(path).unwrap();
        put(path);
    }
}

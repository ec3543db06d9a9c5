//! Taking down what an attempt has written, so that it can be known again.

use std::io;
use std::path::Path;

use super::digest::Digest;
use super::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestFile};
use super::survey::{FoundFile, SurveyError, Tree};

/// How large an artifact may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArtifactLimits {
    /// The most bytes of all its files together. `--max-artifact-bytes`, by default 10 GiB.
    pub(crate) bytes: u64,
    /// The most files and folders. `--max-artifact-files`, by default 10 000.
    pub(crate) files: usize,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self { bytes: 10 << 30, files: 10_000 }
    }
}

/// What has been taken down.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) manifest: Manifest,
    /// That of the state which the manifest describes.
    pub(crate) fingerprint: Digest,
}

/// Writes out every file and folder below `folder`, and lists and hashes them meanwhile. Limits are looked at before anything is read.
///
/// Blocks for as long as that takes.
pub(crate) fn seal(folder: &Path, limits: ArtifactLimits) -> Result<Sealed, SealError> {
    let tree = Tree::open(folder).map_err(SealError::Disk)?;
    let survey = tree.survey(limits.files)?;
    if survey.bytes() > limits.bytes {
        return Err(SealError::TooLarge { bytes: survey.bytes(), limit: limits.bytes });
    }
    let files = survey.files.iter().map(|file| take_down(&tree, file)).collect::<Result<_, _>>()?;
    tree.sync_folders(&survey)?;
    let fingerprint = survey.fingerprint();
    // A process that the script has left behind may still be writing.
    if tree.survey(limits.files)?.fingerprint() != fingerprint {
        return Err(SealError::Changed);
    }
    let manifest = Manifest::new(survey.folders, files);
    let length = manifest.to_bytes().len() as u64;
    if length > MAX_MANIFEST_BYTES { Err(SealError::LongManifest(length)) } else { Ok(Sealed { manifest, fingerprint }) }
}

fn take_down(tree: &Tree, found: &FoundFile) -> Result<ManifestFile, SealError> {
    let failed = |source| SurveyError::Io { path: found.path.clone(), source };
    let file = tree.file(&found.path)?;
    let (sha256, exact) = Digest::of_file(&file, found.size).map_err(failed)?;
    if !exact {
        return Err(SealError::Changed);
    }
    file.sync_all().map_err(failed)?;
    Ok(ManifestFile { path: found.path.clone(), size: found.size, sha256 })
}

/// Why what an attempt has written cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// Too many files.
    #[error("it holds more than {0} files and folders (`--max-artifact-files`)")]
    TooMany(usize),
    /// Too many bytes.
    #[error("it has {bytes} bytes; the largest that is kept has {limit} (`--max-artifact-bytes`)")]
    TooLarge {
        /// How many it has.
        bytes: u64,
        /// How many it may have.
        limit: u64,
    },
    /// Its paths are too long for so many files.
    #[error("its manifest has {0} bytes; the longest that is kept has {MAX_MANIFEST_BYTES}: fewer or shorter paths help")]
    LongManifest(u64),
    /// Somebody goes on writing.
    #[error("it was still being changed after `train` had returned")]
    Changed,
    /// It holds what no artifact may hold, or cannot be read.
    #[error(transparent)]
    Survey(SurveyError),
    /// The disk failed.
    #[error("it cannot be written out")]
    Disk(#[source] io::Error),
}

impl From<SurveyError> for SealError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::TooMany(limit) => Self::TooMany(limit),
            other => Self::Survey(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn everything_is_taken_down() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("empty")).unwrap();
        fs::write(folder.path().join("weights"), "12").unwrap();
        let sealed = seal(folder.path(), ArtifactLimits::default()).unwrap();
        let weights = ManifestFile { path: "weights".to_owned(), size: 2, sha256: Digest::of(b"12") };
        assert_eq!(sealed.manifest, Manifest::new(vec!["empty".to_owned()], vec![weights]));
    }

    #[test]
    fn what_is_too_large_is_named_with_its_limit_and_flag() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "12345").unwrap();
        fs::write(folder.path().join("b"), "12345").unwrap();
        let refused = |bytes, files| seal(folder.path(), ArtifactLimits { bytes, files }).map_err(|error| error.to_string());
        refused(10, 2).unwrap();
        let message = refused(9, 2).unwrap_err();
        assert!(message.contains("10 bytes") && message.contains("has 9 (`--max-artifact-bytes`)"), "{message}");
        let message = refused(10, 1).unwrap_err();
        assert!(message.contains("more than 1 files and folders (`--max-artifact-files`)"), "{message}");
    }
}

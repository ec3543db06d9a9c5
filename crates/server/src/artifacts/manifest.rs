//! The list of everything in an artifact, by which it is known again.

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// The number of the form in which manifests are written.
const FORMAT: u32 = 1;
/// How long a manifest may be: enough for more files than anybody means to keep, and little enough to be held in memory.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Everything in an artifact. It has one spelling, so that its digest stands for every byte of the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    /// The paths of the folders, in order.
    folders: Vec<String>,
    /// The files, in the order of their paths.
    files: Vec<ManifestFile>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestFile {
    /// Its path within the artifact.
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The digest of its bytes.
    pub(crate) sha256: Digest,
}

impl Manifest {
    /// The manifest of these folders and files, each in order.
    pub(crate) fn new(folders: Vec<String>, files: Vec<ManifestFile>) -> Self {
        Self { format: FORMAT, folders, files }
    }

    /// Reads a manifest whose digest is known.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] if it is another one, or none.
    pub(crate) fn read(bytes: &[u8], digest: Digest) -> Result<Self, ManifestError> {
        if Digest::of(bytes) != digest {
            return Err(ManifestError::Another);
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        let ordered =
            manifest.folders.is_sorted_by(|one, next| one < next) && manifest.files.is_sorted_by(|one, next| one.path < next.path);
        let twice = || manifest.files.iter().any(|file| manifest.lists_folder(&file.path));
        let paths = || manifest.folders.iter().chain(manifest.files.iter().map(|file| &file.path));
        match paths().find(|path| !manifest.holds(path)) {
            _ if manifest.format != FORMAT => Err(ManifestError::Format(manifest.format)),
            Some(path) => Err(ManifestError::Path(path.clone())),
            None if !ordered || twice() => Err(ManifestError::Disordered),
            None => Ok(manifest),
        }
    }

    /// The manifest as it is written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers can always be written")
    }

    pub(crate) fn folders(&self) -> &[String] {
        &self.folders
    }

    pub(crate) fn files(&self) -> &[ManifestFile] {
        &self.files
    }

    /// Whether a path may be part of this artifact: it stays within it, and the folder it is in is listed.
    fn holds(&self, path: &str) -> bool {
        let harmless = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        path.split('/').all(harmless) && path.rsplit_once('/').is_none_or(|(folder, _)| self.lists_folder(folder))
    }

    fn lists_folder(&self, path: &str) -> bool {
        self.folders.binary_search_by(|known| known.as_str().cmp(path)).is_ok()
    }
}

/// Why a manifest cannot be gone by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// It was altered, or is that of another artifact.
    #[error("its manifest is not the one that was committed")]
    Another,
    /// A later version of this program wrote it.
    #[error("its manifest has format {0}, this version knows {FORMAT}; run the newer version")]
    Format(u32),
    /// It leads out of the artifact, or into a folder that is not part of it.
    #[error("its manifest names `{}`, which cannot be part of it", .0.escape_debug())]
    Path(String),
    /// Something is listed twice, or not in its place.
    #[error("its manifest is not in order")]
    Disordered,
    /// It is no manifest at all.
    #[error("its manifest cannot be read")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> ManifestFile {
        ManifestFile { path: path.to_owned(), size: 2, sha256: Digest::of(b"12") }
    }

    fn reread(folders: &[&str], files: &[&str]) -> Result<Manifest, ManifestError> {
        let folders = folders.iter().map(|&path| path.to_owned()).collect();
        let bytes = Manifest::new(folders, files.iter().map(|path| file(path)).collect()).to_bytes();
        Manifest::read(&bytes, Digest::of(&bytes))
    }

    #[test]
    fn a_manifest_is_written_in_one_way() {
        let manifest = Manifest::new(vec!["sub".to_owned()], vec![file("a \"b\""), file("sub/é")]);
        let digest = Digest::of(b"12");
        let written = format!(
            r#"{{"format":1,"folders":["sub"],"files":[{{"path":"a \"b\"","size":2,"sha256":"{digest}"}},{{"path":"sub/é","size":2,"sha256":"{digest}"}}]}}"#
        );
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), written);
        assert_eq!(Manifest::read(written.as_bytes(), Digest::of(written.as_bytes())).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_is_taken_for_its_digest_alone() {
        let bytes = Manifest::new(Vec::new(), vec![file("a")]).to_bytes();
        let other = Manifest::new(Vec::new(), vec![file("b")]).to_bytes();
        assert!(matches!(Manifest::read(&other, Digest::of(&bytes)), Err(ManifestError::Another)));
        for (bytes, message) in [
            (&b"{}"[..], "cannot be read"),
            (br#"{"format":2,"folders":[],"files":[]}"#, "has format 2"),
            (br#"{"format":1,"folders":[],"files":[],"more":1}"#, "cannot be read"),
        ] {
            let error = Manifest::read(bytes, Digest::of(bytes)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn no_path_leads_out_of_an_artifact() {
        reread(&["sub", "sub/b"], &["sub/b/a"]).unwrap();
        for path in ["../a", "/etc/passwd", "sub/../../a", "sub//a", "./a", "a/", "", "a\0b", "elsewhere/a"] {
            assert!(matches!(reread(&["sub"], &[path]), Err(ManifestError::Path(_))), "{path:?}");
        }
        assert!(matches!(reread(&[".."], &["../a"]), Err(ManifestError::Path(_))));
        assert!(matches!(reread(&["b", "a"], &[]), Err(ManifestError::Disordered)));
        assert!(matches!(reread(&[], &["a", "a"]), Err(ManifestError::Disordered)));
        assert!(matches!(reread(&["a"], &["a"]), Err(ManifestError::Disordered)), "a folder is no file");
    }
}

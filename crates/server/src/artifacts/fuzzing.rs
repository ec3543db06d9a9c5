//! A door for the fuzzer to what is read of artifacts.

use super::digest::Digest;
use super::manifest::Manifest;
use super::name::ArtifactName;

/// A manifest as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The paths of its folders.
    pub folders: Vec<String>,
    /// The paths of its files.
    pub files: Vec<String>,
    /// The manifest as it is written.
    pub written: Vec<u8>,
}

/// Reads a manifest that is known by its own digest.
///
/// # Errors
///
/// Why it cannot be gone by.
pub fn manifest(bytes: &[u8]) -> Result<Listed, String> {
    let manifest = Manifest::read(bytes, Digest::of(bytes)).map_err(|error| error.to_string())?;
    let files = manifest.files().iter().map(|file| file.path.clone()).collect();
    Ok(Listed { folders: manifest.folders().to_vec(), files, written: manifest.to_bytes() })
}

/// Reads an artifact's name, and writes it again.
#[must_use]
pub fn artifact_name(text: &str) -> Option<String> {
    text.parse::<ArtifactName>().ok().map(|name| name.to_string())
}

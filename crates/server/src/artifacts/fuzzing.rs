//! A door for the fuzzer to what is read of artifacts.

use super::digest::Digest;
use super::manifest::Manifest;
use super::name::ArtifactName;

/// Reads a manifest that is known by its own digest: the paths of its folders and of its files, and the manifest as it is written.
///
/// # Errors
///
/// Why it cannot be gone by.
pub fn manifest(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>, Vec<u8>), String> {
    let manifest = Manifest::read(bytes, Digest::of(bytes)).map_err(|error| error.to_string())?;
    let files = manifest.files().iter().map(|file| file.path.clone()).collect();
    Ok((manifest.folders().to_vec(), files, manifest.to_bytes()))
}

/// Reads an artifact's name, and writes it again.
#[must_use]
pub fn artifact_name(text: &str) -> Option<String> {
    text.parse::<ArtifactName>().ok().map(|name| name.to_string())
}

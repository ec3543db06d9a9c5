//! What artifacts are known by: their manifests and their names.

use std::collections::BTreeSet;

use dunnage_server::fuzzing::{artifact_name, manifest};

/// Reads a manifest, and an artifact's name.
///
/// A manifest that is gone by leads nowhere else than into its artifact, names nothing twice, and every folder before what is in it. It
/// is read as the same when it is written anew. A name has one spelling and is no path.
pub fn manifests(data: &[u8]) {
    if let Ok(listed) = manifest(data) {
        assert_eq!(manifest(&listed.written).as_ref(), Ok(&listed), "what was read is read again");
        let paths: Vec<&str> = listed.folders.iter().chain(&listed.files).map(String::as_str).collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "something is named twice");
        paths.iter().for_each(|path| is_within(path, &listed.folders));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(name) = artifact_name(text)
    {
        assert_eq!(name, text);
        assert!(!name.contains('/') && !name.starts_with('.') && name.is_ascii(), "{name}");
    }
}

fn is_within(path: &str, folders: &[String]) {
    let parts: Vec<&str> = path.split('/').collect();
    assert!(!parts.iter().any(|part| part.is_empty() || *part == "." || *part == ".." || part.contains('\0')), "{path:?}");
    for length in 1..parts.len() {
        let folder = parts[..length].join("/");
        assert!(folders.contains(&folder), "{path:?} is in {folder:?}, which is not listed");
    }
}

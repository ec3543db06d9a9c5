//! What artifacts are known by: their manifests and their names.

use std::collections::BTreeSet;

use dunnage_server::fuzzing::{artifact_name, manifest};

/// Reads a manifest, and an artifact's name.
///
/// A manifest that is gone by leads nowhere else than into its artifact, names nothing twice, and every folder before what is in it. It
/// is read as the same when it is written anew. A name has one spelling and is no path.
pub fn manifests(data: &[u8]) {
    if let Ok((folders, files, written)) = manifest(data) {
        let again = manifest(&written).expect("what was read can be read again");
        assert_eq!(again, (folders.clone(), files.clone(), written));
        let paths: Vec<&str> = folders.iter().chain(&files).map(String::as_str).collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "something is named twice");
        paths.iter().for_each(|path| is_within(path, &folders));
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

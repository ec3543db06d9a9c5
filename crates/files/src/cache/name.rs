//! What files are called on the disk, whatever objects are called in S3.
//!
//! An object's key never becomes part of a path. It goes into a digest, and all that is left of it is a harmless extension, because
//! scripts look at those.

use sha2::{Digest, Sha256};

use crate::source::ObjectAddress;

/// What the file that tells about another begins with. No file of an object does: its digest is of hexadecimal digits.
pub(super) const ABOUT: &str = "about-";
/// What begins the name of a file that is being written.
pub(super) const PART: &str = "part-";
/// What no honest count arrives at; so there is always a next number.
const HIGHEST_ID: u64 = 1 << 62;
/// The longest extension that is kept.
const MAX_EXTENSION: usize = 16;

/// One file of the cache. No number is given twice in one life of the server, and none that a file on the disk has, so a
/// path that somebody uses never leads to another file, even if the same contents are fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

/// The names of a file and of what tells about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) file: String,
    pub(super) about: String,
}

impl Names {
    /// The names of a copy of `object` with this etag.
    pub(super) fn new(object: &ObjectAddress, etag: &str, id: FileId) -> Self {
        let stem = format!("{}-{:x}", digest(object, etag), id.0);
        let about = format!("{ABOUT}{stem}.json");
        let file = match harmless_extension(&object.key) {
            Some(extension) => format!("{stem}.{extension}"),
            None => stem,
        };
        Self { file, about }
    }

    /// The id in the name of a file that tells about another, if it is one.
    pub(super) fn id_in(about: &str) -> Option<FileId> {
        let stem = about.strip_prefix(ABOUT)?.strip_suffix(".json")?;
        let (_, id) = stem.rsplit_once('-')?;
        u64::from_str_radix(id, 16).ok().filter(|id| *id < HIGHEST_ID).map(FileId)
    }
}

/// Every part is preceded by its length, so that no two objects give the same bytes.
fn digest(object: &ObjectAddress, etag: &str) -> String {
    let mut hasher = Sha256::new();
    let mut add = |part: Option<&str>| {
        hasher.update([u8::from(part.is_some())]);
        let part = part.unwrap_or_default().as_bytes();
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(Some(&object.bucket));
    add(Some(&object.key));
    add(object.version_id.as_deref());
    add(Some(etag));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn harmless_extension(key: &str) -> Option<&str> {
    let (_, extension) = key.rsplit('/').next()?.rsplit_once('.')?;
    is_harmless(extension).then_some(extension)
}

fn is_harmless(extension: &str) -> bool {
    (1..=MAX_EXTENSION).contains(&extension.len()) && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn object(key: &str) -> ObjectAddress {
        ObjectAddress { bucket: "faces".into(), key: key.into(), version_id: None }
    }

    fn file(object: &ObjectAddress, etag: &str) -> String {
        Names::new(object, etag, FileId(7)).file
    }

    #[test]
    fn only_a_harmless_extension_is_kept_of_a_key() {
        let table = [
            ("walk.csv", Some("csv")),
            ("a.tar/b.GZ", Some("GZ")),
            ("a.csv/", None),
            ("a.csv/b", None),
            ("a.", None),
            ("a.c v", None),
            ("a.\u{fc}", None),
            ("a.12345678901234567", None),
            ("..", None),
            ("../../etc/passwd", None),
        ];
        for (key, extension) in table {
            assert_eq!(harmless_extension(key), extension, "{key}");
        }
    }

    #[test]
    fn parts_that_run_together_are_told_apart() {
        let versioned = |key: &str, version: Option<&str>| ObjectAddress { version_id: version.map(Into::into), ..object(key) };
        let all = [
            file(&versioned("ab", None), "c"),
            file(&versioned("a", None), "bc"),
            file(&versioned("a", Some("b")), "c"),
            file(&versioned("a", Some("")), "bc"),
            file(&ObjectAddress { bucket: "facesa".into(), ..versioned("b", None) }, "c"),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn the_id_is_found_in_the_name() {
        let names = Names::new(&object("a-b.csv"), "\"e\"", FileId(0xabc));
        assert_eq!(Names::id_in(&names.about), Some(FileId(0xabc)));
        for other in [names.file.as_str(), "about-", "about-x.json", "about-x-y.json", "about-x-ffffffffffffffff.json", "part-1"] {
            assert_eq!(Names::id_in(other), None, "{other}");
        }
    }

    fn hostile_key() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("..".to_owned()),
            Just("/".to_owned()),
            Just("//".to_owned()),
            Just(".".to_owned()),
            Just("\\".to_owned()),
            Just("%2e%2e".to_owned()),
            Just("%252e".to_owned()),
            Just("\u{e9}".to_owned()),
            Just("e\u{301}".to_owned()),
            Just("about-".to_owned()),
            Just(".json".to_owned()),
            Just("part-".to_owned()),
            "[a-c]{1,3}",
            any::<char>().prop_map(String::from),
            Just("k".repeat(1024)),
        ];
        proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn hostile_keys_give_plain_names_that_differ(keys in proptest::collection::vec(hostile_key(), 1..20)) {
            let mut seen: HashMap<String, String> = HashMap::new();
            for key in keys {
                let names = Names::new(&object(&key), "\"e\"", FileId(1));
                for name in [&names.file, &names.about] {
                    prop_assert!(name.len() < 200);
                    prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')));
                    prop_assert!(!name.starts_with('.') && !name.starts_with(PART));
                }
                prop_assert!(!names.file.starts_with(ABOUT));
                let other = seen.insert(names.file, key.clone());
                prop_assert!(other.is_none_or(|other| other == key));
            }
        }
    }
}

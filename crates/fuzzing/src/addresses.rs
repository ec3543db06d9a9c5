//! Where files are, and where clients may have theirs.

use std::path::Component;

use dunnage_types::{FileAddress, ObjectPrefix};

/// Reads a file's address, and a place in S3.
///
/// An address has one meaning: written and read again it is the same. Whatever it names is an object with a name that S3 allows, or an
/// absolute path that does not climb. What lies in a place has an address of its own.
pub fn addresses(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<FileAddress>() {
        is_canonical(&address);
        is_harmless(&address);
    }
    if let Ok(place) = text.parse::<ObjectPrefix>() {
        assert_eq!(place.to_string().parse(), Ok(place.clone()));
        assert!(is_bucket(&place.bucket), "{place:?}");
        if place.key("a").len() <= 1024 {
            is_canonical(&place.below("a"));
        }
    }
}

fn is_canonical(address: &FileAddress) {
    let written = address.to_string();
    assert_eq!(written.parse(), Ok(address.clone()), "{written:?}");
    assert_eq!(written.parse::<FileAddress>().map(|again| again.to_string()), Ok(written));
    let json = serde_json::to_string(address).expect("an address has a JSON form");
    assert_eq!(serde_json::from_str::<FileAddress>(&json).ok().as_ref(), Some(address));
}

fn is_harmless(address: &FileAddress) {
    match address {
        FileAddress::S3 { bucket, key, version_id } => {
            assert!(is_bucket(bucket), "{bucket:?}");
            assert!((1..=1024).contains(&key.len()) && !key.contains(char::is_control), "{key:?}");
            assert!(version_id.as_ref().is_none_or(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic())));
        }
        FileAddress::Local(path) => {
            let climbs = path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir));
            assert!(path.is_absolute() && !climbs && path.file_name().is_some(), "{path:?}");
            assert!(!path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control), "{path:?}");
        }
        FileAddress::Upload { name, .. } => {
            assert!(!name.is_empty() && !name.contains('/') && name != ".." && name != ".", "{name:?}");
        }
    }
}

/// As Amazon has it, told otherwise than where it is checked.
fn is_bucket(name: &str) -> bool {
    let labels_are_well_formed = name.split('.').all(|label| !label.is_empty());
    let is_plain = name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-'));
    let edges_are_plain = !name.starts_with(['.', '-']) && !name.ends_with(['.', '-']);
    (3..=63).contains(&name.len()) && labels_are_well_formed && is_plain && edges_are_plain && !is_address(name)
}

fn is_address(name: &str) -> bool {
    name.split('.').count() == 4 && name.split('.').all(|part| part.parse::<u8>().is_ok_and(|number| number.to_string() == part))
}

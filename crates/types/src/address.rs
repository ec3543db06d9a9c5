//! Where a file is: the texts clients may put into `Files`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest key S3 allows, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 1024;
/// The longest path Linux allows, in bytes.
const MAX_PATH_BYTES: usize = 4095;

/// The address of one file. These three forms are all there are; everything else is refused before a socket or a file
/// is opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FileAddress {
    /// `s3://bucket/key`, optionally with `?versionId=…`. The key is taken literally: nothing in it is decoded.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The object's key, 1 to 1024 bytes.
        key: String,
        /// The object's version; such an object never changes.
        version_id: Option<String>,
    },
    /// `file:///absolute/path`, percent-decoded once as RFC 8089 says. Served only below the files root.
    Local(PathBuf),
    /// `upload:<id>/<name>`: a file that came with the request itself. Only the server makes these.
    Upload {
        /// The upload's folder.
        id: Uuid,
        /// The file's name in it: a single, plain path component.
        name: String,
    },
}

impl fmt::Display for FileAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key, version_id: None } => write!(formatter, "s3://{bucket}/{key}"),
            Self::S3 { bucket, key, version_id: Some(version) } => write!(formatter, "s3://{bucket}/{key}?versionId={version}"),
            Self::Local(path) => {
                formatter.write_str("file://")?;
                percent_encode(path.as_os_str().as_encoded_bytes(), formatter)
            }
            Self::Upload { id, name } => write!(formatter, "upload:{id}/{name}"),
        }
    }
}

impl FromStr for FileAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(rest) = text.strip_prefix("s3://") {
            parse_s3(rest)
        } else if let Some(rest) = text.strip_prefix("file://") {
            parse_local(rest)
        } else if let Some(rest) = text.strip_prefix("upload:") {
            parse_upload(rest)
        } else {
            Err(AddressError::UnknownForm)
        }
    }
}

impl TryFrom<String> for FileAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<FileAddress> for String {
    fn from(address: FileAddress) -> Self {
        address.to_string()
    }
}

/// Why a text is not a file address. The text itself is left to the caller, who knows where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No known scheme.
    #[error("a file is named `s3://bucket/key` or `file:///absolute/path`")]
    UnknownForm,
    /// The bucket breaks S3's rules for names.
    #[error("a bucket name has 3 to 63 of a-z, 0-9, `.` and `-`, begins and ends with a letter or digit, and is no IP address")]
    Bucket,
    /// The key is empty, too long, or holds a control character.
    #[error("an object key has 1 to 1024 bytes and no control characters")]
    Key,
    /// `?versionId=` with nothing usable behind it.
    #[error("`?versionId=` wants a version id of 1 to 1024 visible ASCII characters")]
    VersionId,
    /// A local path that is relative, has a host, climbs with `..`, or holds a control character.
    #[error("a local file is named `file:///absolute/path`, without a host, `..` or control characters")]
    LocalPath,
    /// Not an upload of this server.
    #[error("uploads are sent with the request, not named in it")]
    Upload,
}

fn parse_s3(rest: &str) -> Result<FileAddress, AddressError> {
    let (bucket, tail) = rest.split_once('/').ok_or(AddressError::Key)?;
    let (key, version_id) = match tail.rsplit_once("?versionId=") {
        Some((key, version)) => (key, Some(version)),
        None => (tail, None),
    };
    if !is_bucket_name(bucket) {
        return Err(AddressError::Bucket);
    }
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
        return Err(AddressError::Key);
    }
    if version_id.is_some_and(|id| id.is_empty() || id.len() > MAX_KEY_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(AddressError::VersionId);
    }
    Ok(FileAddress::S3 { bucket: bucket.to_owned(), key: key.to_owned(), version_id: version_id.map(str::to_owned) })
}

/// The rules of "General purpose bucket naming rules" in the Amazon S3 user guide.
pub(crate) fn is_bucket_name(bucket: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = bucket.as_bytes();
    (3..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
        && !bucket.contains("..")
        && bucket.parse::<std::net::Ipv4Addr>().is_err()
}

fn parse_local(rest: &str) -> Result<FileAddress, AddressError> {
    let decoded = percent_decode(rest).ok_or(AddressError::LocalPath)?;
    let path = PathBuf::from(decoded);
    let plain = |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    let valid = path.is_absolute()
        && path.file_name().is_some()
        && path.as_os_str().len() <= MAX_PATH_BYTES
        && path.components().all(plain)
        && !path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control);
    valid.then_some(FileAddress::Local(path)).ok_or(AddressError::LocalPath)
}

fn parse_upload(rest: &str) -> Result<FileAddress, AddressError> {
    let (id, name) = rest.split_once('/').ok_or(AddressError::Upload)?;
    let id = Uuid::try_parse(id).map_err(|_| AddressError::Upload)?;
    let plain = Path::new(name).file_name().is_some_and(|file_name| file_name == name);
    plain.then(|| FileAddress::Upload { id, name: name.to_owned() }).ok_or(AddressError::Upload)
}

/// Decodes `%xx` once. `None` when an escape is broken or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(decoded).ok()
}

fn percent_encode(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~') {
            write!(formatter, "{}", byte as char)?;
        } else {
            write!(formatter, "%{byte:02X}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<FileAddress, AddressError> {
        text.parse()
    }

    #[test]
    fn the_documented_forms_are_accepted() {
        let versioned = FileAddress::S3 { bucket: "faces".into(), key: "a/b c.bin".into(), version_id: Some("3HL4".into()) };
        assert_eq!(parse("s3://faces/a/b c.bin?versionId=3HL4"), Ok(versioned));
        assert_eq!(parse("file:///data/walk%20one.csv"), Ok(FileAddress::Local("/data/walk one.csv".into())));
        assert!(parse("s3://faces/../%2e%2e/ü?x#y").is_ok(), "keys are literal");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "walk.csv",
            "/etc/passwd",
            "http://a/b",
            "https://a/b",
            "gopher://x",
            "S3://faces/a",
            "s3:/faces/a",
            "s3://faces",
            "s3://faces/",
            "s3://user@host/k",
            "s3://faces:9000/k",
            "s3://127.0.0.1/k",
            "s3://AB/k",
            "s3://Faces/k",
            "s3://a..b/k",
            "s3://-ab/k",
            "s3://faces/a\u{0}b",
            "s3://faces/a\nb",
            "s3://faces/k?versionId=",
            "s3://faces/k?versionId=a b",
            "file://host/etc/passwd",
            "file://walk.csv",
            "file:///",
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "file:///a%00b",
            "file:///a%zzb",
            "file:///a%+1b",
            "file:///a%2",
            "FILE:///a",
            "file:/a",
            "upload:x/y",
            "data:text/plain,x",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse(&format!("s3://faces/{}", "k".repeat(1025))), Err(AddressError::Key));
    }

    #[test]
    fn an_escape_is_decoded_once_only() {
        assert_eq!(parse("file:///a/%252e%252e/b"), Ok(FileAddress::Local("/a/%2e%2e/b".into())));
    }

    proptest! {
        #[test]
        fn an_address_reads_back_from_its_text(text in "(s3://[a-z]{3,9}/|file:///|upload:)?\\PC{0,60}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address));
            }
        }
    }
}

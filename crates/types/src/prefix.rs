//! A place in S3: a bucket, or what lies below a prefix in one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::FileAddress;
use crate::address::{MAX_KEY_BYTES, is_bucket_name};

/// `s3://bucket` or `s3://bucket/prefix`. The prefix is taken literally, as S3 itself takes prefixes: `s3://b/walks` holds
/// `s3://b/walks-2/a`, too, and `s3://b/walks/` does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectPrefix {
    /// The bucket's name.
    pub bucket: String,
    /// What keys begin with; empty for the whole bucket.
    pub prefix: String,
}

impl ObjectPrefix {
    /// Whether an object lies in this place.
    #[must_use]
    pub fn holds(&self, bucket: &str, key: &str) -> bool {
        self.bucket == bucket && key.starts_with(&self.prefix)
    }

    /// The address of the object `name` below the prefix, which then is a folder.
    #[must_use]
    pub fn below(&self, name: &str) -> FileAddress {
        FileAddress::S3 { bucket: self.bucket.clone(), key: self.key(name), version_id: None }
    }

    /// The key of the object `name` below the prefix, which then is a folder.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        let folder = self.prefix.trim_end_matches('/');
        if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
    }
}

impl fmt::Display for ObjectPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => write!(formatter, "s3://{}", self.bucket),
            prefix => write!(formatter, "s3://{}/{prefix}", self.bucket),
        }
    }
}

impl FromStr for ObjectPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let place = text.strip_prefix("s3://").ok_or(PrefixError::Form)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if !is_bucket_name(bucket) {
            return Err(PrefixError::Bucket);
        }
        // An address in such a place would be read as that of a version of another object.
        let names_a_version = prefix.contains("?versionId=");
        if prefix.len() > MAX_KEY_BYTES || prefix.chars().any(char::is_control) || names_a_version {
            return Err(PrefixError::Prefix);
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl TryFrom<String> for ObjectPrefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<ObjectPrefix> for String {
    fn from(prefix: ObjectPrefix) -> Self {
        prefix.to_string()
    }
}

/// Why a text names no place in S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It does not begin with `s3://`.
    #[error("a place in S3 is named `s3://bucket` or `s3://bucket/prefix`")]
    Form,
    /// The bucket breaks S3's rules for names.
    #[error("a bucket name has 3 to 63 of a-z, 0-9, `.` and `-`, begins and ends with a letter or digit, and is no IP address")]
    Bucket,
    /// The prefix is too long, or holds a control character or a version.
    #[error("a prefix has at most 1024 bytes, no control characters, and no `?versionId=`")]
    Prefix,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ObjectPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_holds_what_begins_with_it() {
        let walks = parse("s3://gait/walks/");
        assert!(
            walks.holds("gait", "walks/a.csv") && !walks.holds("gait", "walks-2/a.csv") && !walks.holds("faces", "walks/a.csv")
        );
        assert!(parse("s3://gait").holds("gait", "anything") && parse("s3://gait/").holds("gait", "anything"));
        assert!(!walks.holds("gait", "other/../walks/a.csv"), "keys are literal");
    }

    #[test]
    fn a_name_below_a_prefix_makes_a_key() {
        for (prefix, key) in [("s3://gait", "a/b"), ("s3://gait/", "a/b"), ("s3://gait/x", "x/a/b"), ("s3://gait/x/y/", "x/y/a/b")]
        {
            assert_eq!(parse(prefix).key("a/b"), key, "{prefix}");
        }
        assert_eq!(parse("s3://gait/x").below("a").to_string(), "s3://gait/x/a");
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for (text, why) in [
            ("gait", PrefixError::Form),
            ("https://gait", PrefixError::Form),
            ("s3://", PrefixError::Bucket),
            ("s3://Gait", PrefixError::Bucket),
            ("s3://user@gait/x", PrefixError::Bucket),
            ("s3://127.0.0.1/x", PrefixError::Bucket),
            ("s3://gait/a\nb", PrefixError::Prefix),
            ("s3://gait/a?versionId=", PrefixError::Prefix),
        ] {
            assert_eq!(text.parse::<ObjectPrefix>(), Err(why), "{text:?}");
        }
        assert_eq!(parse("s3://gait/x").to_string(), "s3://gait/x");
    }
}

//! Which buckets and prefixes clients may name.

use std::str::FromStr;

use dunnage_types::FileAddress;

/// The buckets and prefixes that clients may name. What to do about an empty list is for its owner to say: it allows nothing.
///
/// A prefix is literal text, as it is to S3: `s3://bucket/scans` allows `scans/1.bin` and `scans2.bin`; `s3://bucket/scans/` only
/// the former.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Allowed>);

/// A bucket, and what the keys in it have to begin with. Written `s3://bucket` or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    bucket: String,
    prefix: String,
}

/// A text that names no bucket and prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no bucket; write `s3://bucket` or `s3://bucket/prefix`")]
pub struct AllowError(String);

impl AllowList {
    /// Whether nothing at all is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object may be named.
    #[must_use]
    pub fn allows(&self, bucket: &str, key: &str) -> bool {
        self.0.iter().any(|allowed| allowed.bucket == bucket && key.starts_with(&allowed.prefix))
    }
}

impl FromIterator<Allowed> for AllowList {
    fn from_iter<I: IntoIterator<Item = Allowed>>(allowed: I) -> Self {
        Self(allowed.into_iter().collect())
    }
}

impl FromStr for Allowed {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let refused = || AllowError(text.to_owned());
        let rest = text.strip_prefix("s3://").ok_or_else(refused)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        format!("s3://{bucket}/key").parse::<FileAddress>().map_err(|_| refused())?;
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> AllowList {
        texts.iter().map(|text| text.parse::<Allowed>().unwrap()).collect()
    }

    #[test]
    fn a_bucket_allows_all_of_its_keys_and_no_others() {
        let list = list(&["s3://scans", "s3://models/"]);
        assert!(list.allows("scans", "a") && list.allows("models", "../b"));
        assert!(!list.allows("scans2", "a") && !list.allows("scan", "a"));
    }

    #[test]
    fn a_prefix_is_literal_text() {
        let list = list(&["s3://scans/2026/ü *"]);
        assert!(list.allows("scans", "2026/ü *") && list.allows("scans", "2026/ü *.bin"));
        for other in ["2026/ü x", "2026/u *", "x/2026/ü *", "2026", ""] {
            assert!(!list.allows("scans", other), "{other}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(AllowList::default().is_empty() && !AllowList::default().allows("scans", "a"));
    }

    #[test]
    fn what_names_no_bucket_is_refused_with_the_text() {
        for text in
            ["", "scans", "s3://", "s3:///key", "S3://scans", "s3://Scans", "s3://-scans", "s3://a", "s3://user@host/x", "*"]
        {
            let error = text.parse::<Allowed>().unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` names no bucket; write `s3://bucket` or `s3://bucket/prefix`"));
        }
    }
}

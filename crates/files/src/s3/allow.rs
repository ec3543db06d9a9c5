//! Which buckets and prefixes clients may name.

use dunnage_types::ObjectPrefix;

/// The buckets and prefixes that clients may name. What to do about an empty list is for its owner to say: it allows nothing.
///
/// A prefix is literal text, as it is to S3: `s3://bucket/scans` allows `scans/1.bin` and `scans2.bin`; `s3://bucket/scans/` only
/// the former.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<ObjectPrefix>);

impl AllowList {
    /// Whether nothing at all is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object may be named.
    #[must_use]
    pub fn allows(&self, bucket: &str, key: &str) -> bool {
        self.0.iter().any(|place| place.holds(bucket, key))
    }
}

impl FromIterator<ObjectPrefix> for AllowList {
    fn from_iter<I: IntoIterator<Item = ObjectPrefix>>(places: I) -> Self {
        Self(places.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> AllowList {
        texts.iter().map(|text| text.parse::<ObjectPrefix>().unwrap()).collect()
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
}

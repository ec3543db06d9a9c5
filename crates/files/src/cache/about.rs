//! What is kept beside each file, so that a later life of the server knows what it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::source::{ObjectAddress, ObjectInfo};

/// The largest that is read: a key of 1,024 bytes may take up six times that, where JSON has to escape it.
pub(super) const MAX_BYTES: u64 = 16 << 10;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    bucket: String,
    key: String,
    version_id: Option<String>,
    etag: String,
    size: u64,
    /// Always sixteen digits, so that the length is known before the bytes are.
    crc64: String,
    /// When S3 was asked for it, in milliseconds since 1970.
    asked_ms: u64,
}

impl About {
    /// About a file that is yet to be written.
    pub(super) fn new(object: &ObjectAddress, info: &ObjectInfo, asked: SystemTime) -> Self {
        let since_epoch = asked.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            bucket: object.bucket.clone(),
            key: object.key.clone(),
            version_id: object.version_id.clone(),
            etag: info.etag.clone(),
            size: info.size,
            crc64: digits(0),
            asked_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// With the checksum of the file. The text's length stays the same.
    pub(super) fn with_checksum(self, crc64: u64) -> Self {
        Self { crc64: digits(crc64), ..self }
    }

    /// As it is kept.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// As it was kept, or `None` if it cannot be read.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Which object it is of.
    pub(super) fn object(&self) -> ObjectAddress {
        ObjectAddress { bucket: self.bucket.clone(), key: self.key.clone(), version_id: self.version_id.clone() }
    }

    /// What S3 said of the object.
    pub(super) fn info(&self) -> ObjectInfo {
        ObjectInfo { size: self.size, etag: self.etag.clone() }
    }

    /// The CRC-64/NVME of the file, if it is a number at all.
    pub(super) fn crc64(&self) -> Option<u64> {
        u64::from_str_radix(&self.crc64, 16).ok()
    }

    /// How long ago S3 was asked, or `None` if the clock says that this is yet to come.
    pub(super) fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(UNIX_EPOCH + Duration::from_millis(self.asked_ms)).ok()
    }
}

fn digits(crc64: u64) -> String {
    format!("{crc64:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        let object = ObjectAddress { bucket: "faces".into(), key: "\u{1}\"k\u{fc}".repeat(200), version_id: Some("v".into()) };
        About::new(&object, &ObjectInfo { size: 9, etag: "\"e\"".into() }, UNIX_EPOCH + Duration::from_secs(9))
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let about = about().with_checksum(7);
        let read = About::from_bytes(&about.to_bytes().unwrap()).unwrap();
        assert_eq!((&read, read.crc64(), read.info().size), (&about, Some(7), 9));
        assert_eq!(read.object().version_id.as_deref(), Some("v"));
        assert_eq!(About::from_bytes(b"{\"bucket\":"), None);
    }

    #[test]
    fn its_length_is_known_before_the_checksum() {
        let length = about().to_bytes().unwrap().len();
        for crc64 in [0, 1, u64::MAX] {
            assert_eq!(about().with_checksum(crc64).to_bytes().unwrap().len(), length);
        }
        assert!((length as u64) < MAX_BYTES);
    }

    #[test]
    fn a_file_from_the_future_has_no_age() {
        assert_eq!(about().age(UNIX_EPOCH + Duration::from_secs(10)), Some(Duration::from_secs(1)));
        assert_eq!(about().age(UNIX_EPOCH), None);
    }
}

//! An object that a faulty server holds.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use super::checksum::Algorithm;
use super::content::Content;

/// An object, and what is said of it. Unless told otherwise it has no checksum, and an ETag that differs when the bytes do.
#[derive(Debug, Clone)]
pub struct Object {
    pub(super) content: Content,
    /// With its quotes.
    pub(super) etag: String,
    pub(super) version: Option<String>,
    /// The headers of checksums, and whether those are of the whole object.
    pub(super) checksums: Vec<(Algorithm, String)>,
    pub(super) is_composite: bool,
    pub(super) modified: SystemTime,
    pub(super) is_delete_marker: bool,
}

impl Object {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let content = Content::Held(bytes.into());
        let etag = format!("\"{}\"", hex(&Algorithm::Crc64Nvme.of_content(&content), content.size()));
        Self::of(content, etag)
    }

    /// Of `size` bytes that take no memory. Another `seed` makes other bytes.
    #[must_use]
    pub fn made(size: u64, seed: u64) -> Self {
        Self::of(Content::Made { size, seed }, format!("\"{seed:016x}{size:016x}\""))
    }

    pub(super) fn delete_marker() -> Self {
        Self { is_delete_marker: true, ..Self::new([]) }
    }

    fn of(content: Content, etag: String) -> Self {
        let modified = SystemTime::now();
        Self { content, etag, version: None, checksums: Vec::new(), is_composite: false, modified, is_delete_marker: false }
    }

    /// With this ETag, quotes included.
    #[must_use]
    pub fn etag(self, etag: &str) -> Self {
        Self { etag: etag.to_owned(), ..self }
    }

    /// As this version; the others of its key remain.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        Self { version: Some(version.to_owned()), ..self }
    }

    /// Last changed then.
    #[must_use]
    pub fn modified(self, modified: SystemTime) -> Self {
        Self { modified, ..self }
    }

    /// With the checksum of all its bytes.
    #[must_use]
    pub fn checksum(self, algorithm: Algorithm) -> Self {
        let value = algorithm.of_content(&self.content);
        self.with_checksum(algorithm, value)
    }

    /// With a checksum that is not that of its bytes.
    #[must_use]
    pub fn wrong_checksum(self, algorithm: Algorithm) -> Self {
        let value = algorithm.of(b"other bytes");
        self.with_checksum(algorithm, value)
    }

    /// With a checksum of the checksums of its parts, as if it had been uploaded in parts of so many bytes.
    ///
    /// # Panics
    ///
    /// When parts are to be empty.
    #[must_use]
    pub fn composite_checksum(self, algorithm: Algorithm, part_bytes: u64) -> Self {
        let size = self.size();
        let step = usize::try_from(part_bytes).expect("parts are small");
        let parts: Vec<_> = (0..size).step_by(step).map(|start| start..(start + part_bytes).min(size)).collect();
        let value = algorithm.of_parts(&self.content, &parts);
        Self { is_composite: true, ..self.with_checksum(algorithm, value) }
    }

    pub(super) fn with_checksum(mut self, algorithm: Algorithm, value: String) -> Self {
        self.checksums.push((algorithm, value));
        self
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.content.size()
    }

    /// Some of its bytes.
    ///
    /// # Panics
    ///
    /// When it has fewer, or they do not fit into memory.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("they fit into memory")];
        self.content.fill(range.start, &mut bytes);
        bytes
    }
}

impl From<Vec<u8>> for Object {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for Object {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl From<&str> for Object {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// As long as the digests that ETags often are.
fn hex(checksum: &str, size: u64) -> String {
    let digits: String = checksum.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{size:010x}", &digits[..22])
}

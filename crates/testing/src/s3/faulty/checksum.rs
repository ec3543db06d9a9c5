//! Checksums as S3 writes them.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use sha2::{Digest, Sha256};

use super::content::Content;

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-64/NVME.
    Crc64Nvme,
    /// CRC-32 as in zip.
    Crc32,
    /// CRC-32C, of Castagnoli.
    Crc32c,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Crc64Nvme, Self::Crc32, Self::Crc32c, Self::Sha256];

    /// The name of the header that has such a checksum.
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The checksum of these bytes, as the header has it.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> String {
        let content = Content::Held(bytes.into());
        STANDARD.encode(self.digest(&content, 0..content.size()))
    }

    pub(super) fn of_content(self, content: &Content) -> String {
        STANDARD.encode(self.digest(content, 0..content.size()))
    }

    /// The checksum of the checksums of parts, and how many there are.
    pub(super) fn of_parts(self, content: &Content, parts: &[Range<u64>]) -> String {
        let digests: Vec<u8> = parts.iter().flat_map(|part| self.digest(content, part.clone())).collect();
        format!("{}-{}", self.of(&digests), parts.len())
    }

    fn digest(self, content: &Content, range: Range<u64>) -> Vec<u8> {
        let crc = |algorithm| {
            let mut digest = crc_fast::Digest::new(algorithm);
            content.pieces(range.clone(), |piece| digest.update(piece));
            digest.finalize().to_be_bytes()
        };
        match self {
            Self::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme).to_vec(),
            Self::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc)[4..].to_vec(),
            Self::Crc32c => crc(CrcAlgorithm::Crc32Iscsi)[4..].to_vec(),
            Self::Sha256 => {
                let mut digest = Sha256::new();
                content.pieces(range, |piece| digest.update(piece));
                digest.finalize().to_vec()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_those_of_their_definitions() {
        let of = |algorithm: Algorithm| algorithm.of(b"123456789");
        assert_eq!(of(Algorithm::Crc32), STANDARD.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(of(Algorithm::Crc32c), STANDARD.encode(0xe306_9283_u32.to_be_bytes()));
        assert_eq!(of(Algorithm::Crc64Nvme), STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes()));
        assert_eq!(of(Algorithm::Sha256), "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
    }
}

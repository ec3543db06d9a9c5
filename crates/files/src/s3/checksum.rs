//! Checksums: of what arrives, and of what S3 says should.

use std::fs::File;
use std::os::unix::fs::FileExt;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::{FileProblem, SharedIoError};

/// How much is read at a time for a checksum that needs the bytes in order.
const READ_BYTES: usize = 1 << 20;

/// What S3 says of an object's contents.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Declared {
    /// Nothing that the bytes could be compared with: no checksum, one of the parts' checksums, or of an unknown kind.
    Nothing,
    /// One whose parts can be computed in any order.
    Crc(CrcAlgorithm, u64),
    /// One that needs the bytes from first to last.
    Hash(Hash, Vec<u8>),
}

/// The hashes that S3 keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Declared {
    /// Reads what an answer declares of the whole object.
    pub(super) fn of(answer: &GetObjectOutput) -> Self {
        if answer.checksum_type == Some(ChecksumType::Composite) {
            return Self::Nothing;
        }
        let crc = |algorithm, text: &Option<String>| Some(Self::Crc(algorithm, number(algorithm, &bytes(text.as_deref()?)?)?));
        let hash = |hash, text: &Option<String>| Some(Self::Hash(hash, bytes(text.as_deref()?)?));
        crc(CrcAlgorithm::Crc64Nvme, &answer.checksum_crc64_nvme)
            .or_else(|| crc(CrcAlgorithm::Crc32Iscsi, &answer.checksum_crc32_c))
            .or_else(|| crc(CrcAlgorithm::Crc32IsoHdlc, &answer.checksum_crc32))
            .or_else(|| hash(Hash::Sha256, &answer.checksum_sha256))
            .or_else(|| hash(Hash::Sha1, &answer.checksum_sha1))
            .or_else(|| hash(Hash::Sha512, &answer.checksum_sha512))
            .unwrap_or(Self::Nothing)
    }

    /// An empty sum of some of the bytes.
    pub(super) fn sum(&self) -> Sum {
        let declared = match self {
            Self::Crc(algorithm, _) if *algorithm != CrcAlgorithm::Crc64Nvme => Some(Crc::new(*algorithm)),
            _ => None,
        };
        Sum { own: Crc::new(CrcAlgorithm::Crc64Nvme), declared }
    }

    /// Compares with the sum of all bytes, which `file` holds; reads them once more if that is needed. Blocks.
    pub(super) fn check(&self, sum: &Sum, file: &File) -> Result<(), FileProblem> {
        let fits = match self {
            Self::Nothing => true,
            Self::Crc(_, value) => sum.declared.unwrap_or(sum.own).finalize() == *value,
            Self::Hash(hash, value) => hash.of(file).map_err(|error| FileProblem::CacheDisk(SharedIoError::new(error)))? == *value,
        };
        if fits { Ok(()) } else { Err(FileProblem::Corrupt) }
    }
}

impl Hash {
    fn of(self, file: &File) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Sha1 => digest::<Sha1>(file),
            Self::Sha256 => digest::<Sha256>(file),
            Self::Sha512 => digest::<Sha512>(file),
        }
    }
}

fn digest<D: Digest>(file: &File) -> std::io::Result<Vec<u8>> {
    let (mut digest, mut buffer, mut offset) = (D::new(), vec![0; READ_BYTES], 0);
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => return Ok(digest.finalize().to_vec()),
            read => {
                digest.update(&buffer[..read]);
                offset += read as u64;
            }
        }
    }
}

/// The checksums of a run of bytes: always CRC-64/NVME, and what S3 declares if that is another CRC.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    own: Crc,
    declared: Option<Crc>,
}

impl Sum {
    /// Adds bytes that follow.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.own.update(bytes);
        if let Some(declared) = &mut self.declared {
            declared.update(bytes);
        }
    }

    /// Adds the sum of the bytes that follow.
    pub(super) fn append(&mut self, following: &Self) {
        self.own.combine(&following.own);
        if let (Some(declared), Some(following)) = (&mut self.declared, &following.declared) {
            declared.combine(following);
        }
    }

    /// The CRC-64/NVME.
    pub(super) fn crc64_nvme(&self) -> u64 {
        self.own.finalize()
    }
}

/// A CRC-64/NVME as S3 writes it.
pub(super) fn crc64_nvme_text(crc: u64) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

/// The CRC-64/NVME of bytes.
pub(super) fn crc64_nvme(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// The bytes of a checksum; `None` for one of the parts' checksums, which ends in `-` and their number.
fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The value of a CRC; `None` if it is not as wide as it should be. Some servers write a CRC-32 where a CRC-64 is asked for.
fn number(algorithm: CrcAlgorithm, bytes: &[u8]) -> Option<u64> {
    match algorithm {
        CrcAlgorithm::Crc64Nvme => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
        _ => Some(u32::from_be_bytes(bytes.try_into().ok()?).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// The check values of `123456789` in the catalogue of parametrised CRC algorithms, and its hashes.
    fn declared() -> [(&'static str, GetObjectOutput); 5] {
        let answer = GetObjectOutput::builder;
        [
            ("crc64nvme", answer().checksum_crc64_nvme(STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes())).build()),
            ("crc32c", answer().checksum_crc32_c(STANDARD.encode(0xe306_9283_u32.to_be_bytes())).build()),
            ("crc32", answer().checksum_crc32(STANDARD.encode(0xcbf4_3926_u32.to_be_bytes())).build()),
            ("sha1", answer().checksum_sha1("98O8HYCOBHMq32eZZczDTKeuNEE=").build()),
            ("sha256", answer().checksum_sha256("FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=").build()),
        ]
    }

    #[test]
    fn every_kind_of_checksum_is_compared_whatever_the_parts() {
        for (name, answer) in declared() {
            let declared = Declared::of(&answer);
            for cut in 0..=9 {
                let (mut sum, mut rest) = (declared.sum(), declared.sum());
                sum.update(&b"123456789"[..cut]);
                rest.update(&b"123456789"[cut..]);
                sum.append(&rest);
                assert!(declared.check(&sum, &file(b"123456789")).is_ok(), "{name}, cut at {cut}");
                assert_eq!(sum.crc64_nvme(), 0xae8b_1486_0a79_9888, "{name}");
            }
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_found_out() {
        for (name, answer) in declared() {
            let declared = Declared::of(&answer);
            let mut sum = declared.sum();
            sum.update(b"123456780");
            assert!(matches!(declared.check(&sum, &file(b"123456780")), Err(FileProblem::Corrupt)), "{name}");
        }
    }

    #[test]
    fn the_checksum_of_the_parts_checksums_says_nothing_of_the_bytes() {
        let composite = GetObjectOutput::builder().checksum_crc32("AAAAAA==").checksum_type(ChecksumType::Composite).build();
        let numbered = GetObjectOutput::builder().checksum_sha256("FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=-2").build();
        let odd = GetObjectOutput::builder().checksum_crc32("AAA=").build();
        let narrow = GetObjectOutput::builder().checksum_crc64_nvme("AAAAAA==").build();
        for answer in [composite, numbered, odd, narrow, GetObjectOutput::builder().build()] {
            assert_eq!(Declared::of(&answer), Declared::Nothing);
        }
    }

    #[test]
    fn many_parts_make_the_sum_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|index| (index * 7 + index / 251) as u8).collect();
        for part_bytes in [1_000, 4_096, 33_333] {
            let mut sum = Declared::Nothing.sum();
            for part in bytes.chunks(part_bytes) {
                let mut following = Declared::Nothing.sum();
                following.update(part);
                sum.append(&following);
            }
            assert_eq!(sum.crc64_nvme(), crc64_nvme(&bytes), "parts of {part_bytes}");
        }
    }
}

//! SHA-256, of manifests and of files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How much of a file is in memory while it is hashed.
const CHUNK_BYTES: usize = 256 << 10;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a file's first `size` bytes, and whether it has exactly so many. One that grows without end is not followed.
    pub(crate) fn of_file(file: &File, size: u64) -> io::Result<(Self, bool)> {
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut left = size;
        loop {
            let wanted = usize::try_from(left).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES);
            let read = match (&mut &*file).read(&mut chunk[..wanted]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 || left == 0 {
                return Ok((Self(hash.finalize().into()), read == 0 && left == 0));
            }
            hash.update(&chunk[..read]);
            left -= read as u64;
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(NotADigest);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn digit(character: u8) -> Result<u8, NotADigest> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(NotADigest),
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this is no SHA-256 in 64 lower-case hexadecimal digits")]
pub(crate) struct NotADigest;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        for other in [&empty.to_uppercase(), &empty[1..], &format!("{empty}00"), &empty.replace('e', "g")] {
            assert!(other.parse::<Digest>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_file_is_hashed_up_to_its_size() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes = vec![7; CHUNK_BYTES + 5];
        file.write_all(&bytes).unwrap();
        for (size, is_exact) in [(bytes.len(), true), (bytes.len() - 1, false), (bytes.len() + 1, false), (0, false)] {
            io::Seek::rewind(&mut file).unwrap();
            let (digest, exact) = Digest::of_file(&file, size as u64).unwrap();
            assert_eq!((digest, exact), (Digest::of(&bytes[..size.min(bytes.len())]), is_exact), "{size}");
        }
    }
}

//! The checksum that S3 keeps of objects: CRC-64/NVME.

use std::fs::File;
use std::io::{self, Read};

use crc_fast::{CrcAlgorithm, Digest};

const CHUNK_BYTES: usize = 256 << 10;

/// The CRC-64/NVME of a file from where it is read next to its end. Blocks for as long as the disk takes.
pub(super) fn crc64(file: &mut File) -> io::Result<u64> {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(digest.finalize()),
            Ok(read) => digest.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_in_the_catalogue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digits");
        std::fs::write(&path, "123456789").unwrap();
        assert_eq!(crc64(&mut File::open(&path).unwrap()).unwrap(), 0xae8b_1486_0a79_9888);
    }
}

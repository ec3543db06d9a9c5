//! Writes what arrives to disk, away from the threads that serve the network.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use super::checksum::Sum;
use crate::{FileProblem, SharedIoError};

/// How much is gathered before it is written.
const WRITE_BYTES: usize = 512 << 10;

/// Writes one run of bytes at its place in a file, and sums it.
///
/// One buffer fills while another is written, by a thread that may block: memory is bounded, and a slow disk slows only this run.
/// Dropped before its end, it leaves the file with holes.
pub(super) struct PartWriter {
    file: Arc<File>,
    /// Where the next byte goes, and where the last one.
    range: Range<u64>,
    buffer: Vec<u8>,
    writing: Option<JoinHandle<io::Result<Written>>>,
    idle: Option<Written>,
}

/// What a finished write hands on to the next.
struct Written {
    buffer: Vec<u8>,
    sum: Sum,
}

impl PartWriter {
    /// Will write `range` of `file`; `sum` is empty.
    pub(super) fn new(file: Arc<File>, range: Range<u64>, sum: Sum) -> Self {
        let idle = Some(Written { buffer: Vec::new(), sum });
        Self { file, range, buffer: Vec::new(), writing: None, idle }
    }

    /// What is still missing.
    pub(super) fn missing(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Takes from the beginning of `bytes` what belongs here; how much that was. It is written later.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<usize, FileProblem> {
        let missing = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let taken = bytes.len().min(missing);
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            self.reserve();
            let (now, later) = rest.split_at(rest.len().min(WRITE_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.range.start += now.len() as u64;
            rest = later;
            if self.buffer.len() == WRITE_BYTES {
                self.write().await?;
            }
        }
        Ok(taken)
    }

    /// Waits until all is written; the sum of it.
    pub(super) async fn finish(mut self) -> Result<Sum, FileProblem> {
        self.write().await?;
        Ok(self.written().await?.sum)
    }

    /// Makes room for a whole write, or for all of a small part.
    fn reserve(&mut self) {
        if self.buffer.capacity() == 0 {
            let missing = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
            self.buffer.reserve_exact(missing.min(WRITE_BYTES));
        }
    }

    async fn write(&mut self) -> Result<(), FileProblem> {
        let Written { mut buffer, mut sum } = self.written().await?;
        buffer.clear();
        let full = std::mem::replace(&mut self.buffer, buffer);
        let (file, offset) = (self.file.clone(), self.range.start - full.len() as u64);
        self.writing = Some(spawn_blocking(move || {
            sum.update(&full);
            file.write_all_at(&full, offset)?;
            Ok(Written { buffer: full, sum })
        }));
        Ok(())
    }

    async fn written(&mut self) -> Result<Written, FileProblem> {
        if let Some(idle) = self.idle.take() {
            return Ok(idle);
        }
        let Some(writing) = self.writing.take() else { return Err(disk(io::Error::other("an earlier write failed"))) };
        writing.await.map_err(|error| disk(io::Error::other(error)))?.map_err(disk)
    }
}

fn disk(error: io::Error) -> FileProblem {
    FileProblem::CacheDisk(SharedIoError::new(error))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::checksum::{Declared, crc64_nvme};
    use super::*;

    #[tokio::test]
    async fn what_is_pushed_in_any_pieces_is_written_at_its_place() {
        let bytes: Vec<u8> = (0..2 * WRITE_BYTES + 12_345).map(|index| (index % 251) as u8).collect();
        let path = tempfile::NamedTempFile::new().unwrap();
        for piece_bytes in [1_000, WRITE_BYTES - 1, WRITE_BYTES, 2 * WRITE_BYTES + 50_000] {
            let range = 10..10 + bytes.len() as u64;
            let mut writer = PartWriter::new(Arc::new(path.reopen().unwrap()), range, Declared::Nothing.sum());
            for piece in bytes.chunks(piece_bytes) {
                assert_eq!(writer.push(piece).await.unwrap(), piece.len());
            }
            assert_eq!(writer.push(b"more").await.unwrap(), 0, "what does not belong here is not taken");
            assert_eq!(writer.finish().await.unwrap().crc64_nvme(), crc64_nvme(&bytes));
            let mut written = Vec::new();
            path.reopen().unwrap().read_to_end(&mut written).unwrap();
            assert_eq!(&written[10..], bytes);
        }
    }

    #[tokio::test]
    async fn a_failing_disk_is_reported() {
        let read_only = Arc::new(File::open("/dev/null").unwrap());
        let mut writer = PartWriter::new(read_only, 0..5, Declared::Nothing.sum());
        writer.push(b"12345").await.unwrap();
        assert!(matches!(writer.finish().await, Err(FileProblem::CacheDisk(_))));
    }

    #[tokio::test]
    async fn an_empty_part_is_written_at_once() {
        let writer = PartWriter::new(Arc::new(tempfile::tempfile().unwrap()), 0..0, Declared::Nothing.sum());
        assert_eq!(writer.finish().await.unwrap().crc64_nvme(), crc64_nvme(b""));
    }
}

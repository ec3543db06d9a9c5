//! A file that is complete.

use std::io;
use std::path::PathBuf;

use super::checksum;
use super::folder::{Folder, Identity};
use super::name::{FileId, Names};
use crate::source::{ObjectAddress, ObjectInfo};

/// A file that is complete, and what must be true of it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: FileId,
    pub(super) object: ObjectAddress,
    pub(super) info: ObjectInfo,
    pub(super) names: Names,
    /// Where readers find it.
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) crc64: u64,
    /// What it takes up on the disk with what is kept beside it, in bytes.
    pub(super) bytes: u64,
}

impl Kept {
    /// Whether its path still leads to it, unchanged as far as a status tells: length, inode and time of change. One system call.
    pub(super) fn is_intact(&self) -> bool {
        self.identity.is_at(&self.path)
    }

    /// Whether its bytes are those that were fetched. Reads all of them.
    pub(super) fn has_its_bytes(&self, folder: &Folder) -> io::Result<bool> {
        let mut file = folder.open(&self.names.file)?;
        let same_file = Identity::of(&rustix::fs::fstat(&file)?) == Some(self.identity);
        Ok(same_file && checksum::crc64(&mut file)? == self.crc64)
    }

    /// Removes it. What tells about it goes first: a file of which nothing is known is swept by the next life.
    pub(super) fn remove(&self, folder: &Folder) -> io::Result<()> {
        folder.remove(self.names.about.as_ref())?;
        folder.remove(self.names.file.as_ref())
    }
}

//! A file that is being written.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use rustix::fs::Mode;

use super::Shared;
use super::about::About;
use super::folder::{Folder, Identity};
use super::kept::Kept;
use super::name::{FileId, Names, PART};
use super::room::Room;

/// A file that is being written into room of its own. Dropping it removes it and gives the room back.
#[derive(Debug)]
pub(super) struct Part {
    id: FileId,
    folder: Arc<Folder>,
    file: Arc<File>,
    /// Everything of it that may be on the disk.
    names: Vec<String>,
    room: Option<Room>,
}

impl Part {
    /// A new, empty file. The room must be enough for all that will be written.
    pub(super) fn create(folder: Arc<Folder>, id: FileId, room: Room) -> io::Result<Self> {
        let name = format!("{PART}{:x}", id.0);
        let file = Arc::new(folder.create(&name)?);
        Ok(Self { id, folder, file, names: vec![name], room: Some(room) })
    }

    /// Where its bytes go.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Puts the written file in its place, read only, and tells whose room it takes up.
    ///
    /// Both files are complete before either gets its name, and the one that tells about the other gets it first: wherever a crash
    /// falls, there is a pair or something that the next life sweeps. Nothing is synced. After a loss of power any of it may be
    /// missing or wrong, which the checksum tells when the file is first used again; within this life what is written is what is
    /// read.
    pub(super) fn publish(mut self, about: About, crc64: u64) -> io::Result<(Kept, Room)> {
        let (object, info) = (about.object(), about.info());
        let names = Names::new(&object, &info.etag, self.id);
        let about = about.with_checksum(crc64).to_bytes()?;
        rustix::fs::fchmod(&*self.file, Mode::RUSR)?;
        let identity = Identity::of(&rustix::fs::fstat(&*self.file)?).ok_or(io::ErrorKind::InvalidData)?;
        if identity.size() != info.size {
            let message = format!("{} bytes were written and {} are there", info.size, identity.size());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.write_about(&about, &names.about)?;
        self.names.push(names.file.clone());
        self.folder.rename(&self.names[0], &names.file)?;
        let path = self.folder.path().join(&names.file);
        if !identity.is_at(&path) {
            // The folder was moved or covered, or the file was exchanged.
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("`{}` is not where it was put", path.display())));
        }
        let bytes = info.size + about.len() as u64;
        let kept = Kept { id: self.id, object, info, names, path, identity, crc64, bytes };
        let room = self.room.take().ok_or(io::ErrorKind::InvalidData)?;
        Ok((kept, room))
    }

    fn write_about(&mut self, about: &[u8], name: &str) -> io::Result<()> {
        let part = format!("{}-about", self.names[0]);
        self.names.push(part.clone());
        self.folder.create(&part)?.write_all(about)?;
        self.names.push(name.to_owned());
        self.folder.rename(&part, name)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            let (shared, bytes) = room.into_parts();
            Litter { folder: self.folder.clone(), names: std::mem::take(&mut self.names), bytes }.clear(&shared);
        }
    }
}

/// Files that are of no use, and what was reserved for them, in bytes.
#[derive(Debug)]
pub(super) struct Litter {
    folder: Arc<Folder>,
    names: Vec<String>,
    bytes: u64,
}

impl Litter {
    /// Removes the files and then gives the room back. As long as the disk does not let them go, they are remembered and counted.
    pub(super) fn clear(mut self, shared: &Arc<Shared>) {
        let mut failure = None;
        self.names.retain(|name| match self.folder.remove(name.as_ref()) {
            Ok(()) => false,
            Err(error) => {
                failure = Some(error);
                true
            }
        });
        match failure {
            Some(error) => shared.remember_litter(self, &error),
            None => drop(Room::new(shared.clone(), self.bytes)),
        }
    }
}

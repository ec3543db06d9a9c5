//! The payload of an answer: a short one in memory, a long one in a file that the server maps, so that it is copied once on its way.
//!
//! Such a file has no name and is memory all the same. It is sealed before it is sent: nobody can change it from then on, neither this
//! process nor what a script has started, and the server takes no other. Whatever stands in the way of that costs no answer, since the
//! payload then goes through the socket.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Resource;

/// So many bytes are worth a file of their own; making and mapping one costs more than copying less (`bench/README.md`).
const LONG_BYTES: usize = 32 << 20;

/// What nobody may do with a file any more that the server is to map.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The bytes of a batch's vectors, while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    /// Whether a file is worth trying.
    may_be_file: bool,
    memory: BytesMut,
    /// Holds everything, once there is one.
    file: Option<PayloadFile>,
}

/// A payload that is complete.
#[derive(Debug)]
pub(crate) enum Sealed {
    /// Goes through the socket.
    Memory(Bytes),
    /// Goes beside it.
    File(PayloadFile),
}

impl Payload {
    /// An empty one, for a server that takes descriptors, or does not.
    pub(crate) fn new(descriptors: bool) -> Self {
        Self { may_be_file: descriptors, ..Self::default() }
    }

    /// Adds `bytes`, and moves into a file with all there is when that is much.
    ///
    /// # Errors
    ///
    /// Those of a file that cannot be read again, which had to be given up.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() && self.may_be_file && self.memory.len() + bytes.len() >= LONG_BYTES {
            self.move_into_file();
        }
        if let Some(mut file) = self.file.take() {
            if file.append(bytes).is_ok() {
                self.file = Some(file);
                return Ok(());
            }
            self.may_be_file = false;
            self.memory.extend_from_slice(&file.read()?);
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes sure that nothing changes any more.
    ///
    /// # Errors
    ///
    /// As for [`Payload::extend`].
    pub(crate) fn seal(self) -> io::Result<Sealed> {
        match self.file {
            None => Ok(Sealed::Memory(self.memory.freeze())),
            Some(file) if rustix::fs::fcntl_add_seals(&file.file, SEALS).is_ok() => Ok(Sealed::File(file)),
            Some(file) => file.read().map(Sealed::Memory),
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.file.is_none()
    }

    fn move_into_file(&mut self) {
        let moved = PayloadFile::create().and_then(|mut file| file.append(&self.memory).map(|()| file));
        match moved {
            Ok(file) => {
                self.memory.clear();
                self.file = Some(file);
            }
            Err(_) => self.may_be_file = false,
        }
    }
}

/// A file without a name, in memory.
#[derive(Debug)]
pub(crate) struct PayloadFile {
    file: File,
    /// How many bytes have been written whole.
    length: usize,
}

impl PayloadFile {
    fn create() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Systems before Linux 6.3 know no files that cannot be executed.
        let created = match rustix::fs::memfd_create(c"dunnage-payload", flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(c"dunnage-payload", flags),
            created => created,
        };
        Ok(Self { file: File::from(created?), length: 0 })
    }

    /// How many bytes it holds.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// All of it, for when it cannot be sent.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] of the system.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(self.length);
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.freeze())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = self.length + bytes.len();
        // A file that becomes too large for the limits of its process kills it.
        if rustix::process::getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < length as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.file.write_all(bytes)?;
        self.length = length;
        Ok(())
    }
}

/// Sends the beginning of `head` with the descriptor of a file; how much of it that was. `None` where the system lets no further
/// descriptors be sent: so many are on their way.
///
/// # Errors
///
/// An [`io::Error`] of the socket.
pub(crate) fn send_descriptor(socket: &UnixStream, head: &[u8], file: &PayloadFile) -> io::Result<Option<usize>> {
    let descriptors = [file.file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(head)], &mut control, SendFlags::NOSIGNAL) {
            Ok(written) => return Ok(Some(written)),
            Err(Errno::TOOMANYREFS) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ from their neighbours, from `start` on.
    fn bytes(start: usize, length: usize) -> Vec<u8> {
        (start..start + length).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn a_long_payload_lies_in_a_file_that_nobody_can_change() {
        let mut payload = Payload::new(true);
        payload.extend(&bytes(0, 1000)).unwrap();
        assert!(payload.file.is_none());
        payload.extend(&bytes(1000, LONG_BYTES)).unwrap();
        payload.extend(&bytes(1000 + LONG_BYTES, 5)).unwrap();
        let Sealed::File(mut sealed) = payload.seal().unwrap() else { panic!("it is long") };
        assert_eq!(sealed.length(), LONG_BYTES + 1005);
        assert_eq!(sealed.read().unwrap(), bytes(0, LONG_BYTES + 1005));
        assert_eq!(sealed.file.write_all(b"x").unwrap_err().raw_os_error(), Some(Errno::PERM.raw_os_error()));
        assert!(sealed.file.set_len(1).is_err());
    }

    #[test]
    fn a_payload_stays_in_memory_when_it_is_short_or_the_server_takes_no_descriptors() {
        for (descriptors, length) in [(true, LONG_BYTES - 1), (false, LONG_BYTES)] {
            let mut payload = Payload::new(descriptors);
            payload.extend(&bytes(0, length)).unwrap();
            let Sealed::Memory(sealed) = payload.seal().unwrap() else { panic!("{length} bytes lie in a file") };
            assert_eq!(sealed, bytes(0, length));
        }
    }

    #[test]
    fn a_payload_whose_file_takes_no_more_is_kept_whole() {
        let mut payload = Payload::new(true);
        payload.extend(&bytes(0, LONG_BYTES)).unwrap();
        rustix::fs::fcntl_add_seals(&payload.file.as_ref().unwrap().file, SealFlags::GROW).unwrap();
        payload.extend(&bytes(LONG_BYTES, 7)).unwrap();
        payload.extend(&bytes(LONG_BYTES + 7, LONG_BYTES)).unwrap();
        let Sealed::Memory(sealed) = payload.seal().unwrap() else { panic!("the file was given up") };
        assert_eq!(sealed, bytes(0, 2 * LONG_BYTES + 7));
    }

    #[test]
    fn a_file_that_cannot_be_sealed_goes_through_the_socket() {
        let mut payload = Payload::new(true);
        payload.extend(&bytes(0, LONG_BYTES)).unwrap();
        rustix::fs::fcntl_add_seals(&payload.file.as_ref().unwrap().file, SealFlags::SEAL).unwrap();
        assert!(matches!(payload.seal().unwrap(), Sealed::Memory(sealed) if sealed == bytes(0, LONG_BYTES)));
    }
}

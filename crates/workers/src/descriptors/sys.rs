//! Descriptors that come over a socket, and the mapping of files.

#![allow(
    unsafe_code,
    reason = "mapping has no safe form, nor has reading a socket into bare memory while descriptors come over it"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use bytes::{BufMut, Bytes, BytesMut};
use memmap2::MmapOptions;
use rustix::fs::{FsWord, SealFlags, SeekFrom};

use super::DescriptorError;

/// What nobody may do any more with a file that is to be mapped.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Files of this system are memory, page by page; the number is that of tmpfs.
const PLAIN_MEMORY: FsWord = 0x0102_1994;

/// What a sealed file of this length holds, without a copy of it. The descriptor is not needed any longer then.
pub(crate) fn map_sealed(descriptor: &OwnedFd, length: usize) -> Result<Bytes, DescriptorError> {
    // The seals come first: what is found behind them stays so. Whatever is no file in memory has none to tell of.
    let seals = rustix::fs::fcntl_get_seals(descriptor).map_err(|_| DescriptorError::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(DescriptorError::NotSealed);
    }
    let system = rustix::fs::fstatfs(descriptor).map_err(io::Error::from)?;
    let size = u64::try_from(rustix::fs::fstat(descriptor).map_err(io::Error::from)?.st_size).unwrap_or(0);
    if size != length as u64 || length == 0 {
        return Err(DescriptorError::Length { found: size, announced: length });
    }
    // Reading where nothing was written, or where memory comes in huge pages, takes memory, which may be refused by then. What is no hole
    // stays none: to make one is to write.
    if system.f_type != PLAIN_MEMORY || rustix::fs::seek(descriptor, SeekFrom::Hole(0)).map_err(io::Error::from)? != size {
        return Err(DescriptorError::Unbacked);
    }
    // SAFETY: the seals keep everybody from changing the file, from making it shorter, and from taking anything out of it, for as long as
    // it exists; nobody can break one.
    let mapping = unsafe { MmapOptions::new().len(length).populate().map_copy_read_only(descriptor.as_raw_fd()) }?;
    Ok(Bytes::from_owner(mapping))
}

/// What one read of a socket has brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes; none at the end of the connection.
    pub(crate) bytes: usize,
    /// A descriptor that was sent with one of them. Programs that are started do not inherit it.
    pub(crate) descriptor: Option<OwnedFd>,
    /// Whether there was room for more bytes.
    pub(crate) has_room: bool,
    /// Whether anything but bytes has come, which ends a read.
    pub(crate) has_control: bool,
    /// Whether more has come than one descriptor, or one that this process has no number left for. What was too much is closed.
    pub(crate) is_cut: bool,
}

/// Room for what comes with one descriptor, where the system can write it.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    // SAFETY: it only computes a length.
    bytes: [u8; unsafe { libc::CMSG_SPACE(DESCRIPTOR_BYTES) } as usize],
}

const DESCRIPTOR_BYTES: u32 = size_of::<RawFd>() as u32;

/// Reads what there is into the room that `buffer` has, without waiting. The kinds of errors are those of any read.
pub(crate) fn receive(socket: &impl AsFd, buffer: &mut BytesMut) -> io::Result<Received> {
    let room = buffer.chunk_mut();
    let room_bytes = room.len();
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room_bytes };
    let mut control = MaybeUninit::<Control>::uninit();
    // SAFETY: all its fields may be zero: numbers, and pointers that are not followed then.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // One descriptor and no more: the system closes what has no room.
    // SAFETY: it only computes a length.
    message.msg_controllen = unsafe { libc::CMSG_LEN(DESCRIPTOR_BYTES) } as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the room and the control buffer are ours for the call, and as long as they are said to be.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let Ok(bytes) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    // SAFETY: so many bytes have been written into the room.
    unsafe { buffer.advance_mut(bytes) };
    // SAFETY: the system has filled in `message`, whose control buffer is still there.
    let descriptor = unsafe { only_descriptor(&message) };
    Ok(Received {
        bytes,
        descriptor,
        has_room: bytes < room_bytes,
        has_control: message.msg_controllen > 0,
        is_cut: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// The descriptor in a message that has room for one.
///
/// # Safety
///
/// `recvmsg` has filled in the message, and nobody has asked for its descriptor before.
unsafe fn only_descriptor(message: &libc::msghdr) -> Option<OwnedFd> {
    // SAFETY: the message was filled in by the system, so its control buffer holds as many bytes as it says; `CMSG_FIRSTHDR` finds whether
    // that is a header, and the length in the header, that a descriptor follows it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message).as_ref()?;
        let is_descriptor = (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        let is_whole = header.cmsg_len as usize >= libc::CMSG_LEN(DESCRIPTOR_BYTES) as usize;
        (is_descriptor && is_whole).then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    }
}

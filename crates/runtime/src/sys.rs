//! Taking over the descriptor that the server left for us.

#![allow(unsafe_code, reason = "an inherited descriptor can only be taken over by its number")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use dunnage_protocol::WORKER_FD;
use rustix::io::FdFlags;

/// Takes the connection to the server from descriptor 3, and keeps it from the script's own children.
///
/// Call it once, first thing in `main`.
///
/// # Errors
///
/// An [`io::Error`] if descriptor 3 is no socket: the program was started by hand.
pub fn inherited_socket() -> io::Result<UnixStream> {
    // SAFETY: the server puts the socket at this number before it starts a runtime, and nothing in this process has
    // opened or closed a descriptor yet. If the number is not open, or is no socket, the next lines find out before it is used.
    let descriptor = unsafe { OwnedFd::from_raw_fd(WORKER_FD) };
    let checked = rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC).and_then(|()| rustix::net::getsockname(&descriptor));
    match checked {
        Ok(_) => Ok(UnixStream::from(descriptor)),
        Err(error) => {
            // Not ours to close: it may be open as something else, or not at all.
            std::mem::forget(descriptor);
            Err(error.into())
        }
    }
}

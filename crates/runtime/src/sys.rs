//! Taking over the descriptor that the server left for us, and threads that stay out of the script's way.

#![allow(
    unsafe_code,
    reason = "an inherited descriptor can only be taken over by its number, signals only be blocked through libc"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

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

/// Starts a thread that no signal reaches: they are meant for the script, which has the main thread.
///
/// # Errors
///
/// An [`io::Error`] if the system refuses another thread.
pub(crate) fn start_without_signals(
    name: &str,
    stack_bytes: usize,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` writes a whole set into `all`, which is then only read; `pthread_sigmask` writes the mask of this thread, a
    // whole set, into `before`. Neither keeps a pointer.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    // A thread begins with the mask of the one that starts it.
    let started = std::thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(run);
    // SAFETY: `before` was written above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    started
}

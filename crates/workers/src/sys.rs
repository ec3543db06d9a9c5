//! What the system offers only by raw descriptors: acting between `fork` and `exec`, and waiting on a process.

#![allow(unsafe_code, reason = "`pre_exec` and waiting on a foreign descriptor have no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use dunnage_protocol::WORKER_FD;
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a worker adds to the server's own readiness to be killed when memory runs out, of 1000.
const OOM_ADJUSTMENT: i32 = 500;
/// What others may not do with the files of a worker: anything for those of no group of ours, writing for the rest.
const WITHHELD_MODE: Mode = Mode::WGRP.union(Mode::RWXO);

/// Makes the child of `command` find `socket` at descriptor 3, die with this thread, leave no core file, keep its files from others,
/// and be the one to go when memory runs out.
///
/// The socket must be above descriptor 3, which [`above_reserved`] sees to.
pub(crate) fn prepare(command: &mut Command, socket: UnixStream) {
    let parent = rustix::process::getpid();
    let readiness = readiness_to_be_killed();
    let in_child = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The server died before the line above took effect.
            return Err(io::Error::other("the server is gone"));
        }
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        // Any mask may be set; the first call only asks.
        let mask = rustix::process::umask(WITHHELD_MODE);
        rustix::process::umask(mask | WITHHELD_MODE);
        volunteer(&readiness);
        // SAFETY: no other owner of descriptor 3 exists in the child: the parent keeps it reserved (`above_reserved`), and
        // the forgotten value leaves the copy open for the program to come.
        let mut target = unsafe { OwnedFd::from_raw_fd(WORKER_FD) };
        let duplicated = rustix::io::dup2(&socket, &mut target);
        std::mem::forget(target);
        Ok(duplicated?)
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(in_child) };
}

/// What a worker's own readiness to be killed is, as the system reads it.
fn readiness_to_be_killed() -> String {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    (own + OOM_ADJUSTMENT).min(1000).to_string()
}

/// Runs between `fork` and `exec`. Where `/proc` is read-only, the server is as likely to be killed as its workers are.
fn volunteer(readiness: &str) {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, readiness.as_bytes());
    }
}

/// Moves a socket above the descriptors that a worker finds in use, so that `dup2` onto one of them closes nothing of ours
/// and clears close-on-exec on the copy alone.
pub(crate) fn above_reserved(socket: UnixStream) -> io::Result<UnixStream> {
    if socket.as_raw_fd() > WORKER_FD {
        return Ok(socket);
    }
    let moved = rustix::io::fcntl_dupfd_cloexec(&socket, WORKER_FD + 1)?;
    // SAFETY: the descriptor was made by the line above and has no other owner.
    Ok(unsafe { UnixStream::from_raw_fd(moved.into_raw_fd()) })
}

/// Keeps from the children of this process whatever it has itself inherited beyond standard input, output and error. What it
/// opens on its own is kept from them already.
pub(crate) fn withhold_inherited() -> io::Result<()> {
    for entry in std::fs::read_dir("/dev/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // SAFETY: only a flag is set, which every descriptor opened here has anyhow; one that is closed by now is refused.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
            Err(error) if error != rustix::io::Errno::BADF => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Lets the async runtime wait until `ending` says that a process has ended.
pub(crate) fn watch(ending: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the value owns the descriptor and never gives it away, so it stays open and the same as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(ending, Interest::READABLE) }?)
}

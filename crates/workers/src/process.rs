//! One child process: noticed when it ends, killed with everything it started, and reaped.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// A child that leads a process group of its own. Dropping it kills the group and has the child reaped.
#[derive(Debug)]
pub(crate) struct Process {
    /// `None` once it is reaped: from then on its number may belong to another process.
    child: Option<Child>,
    pid: Pid,
    pidfd: AsyncFd<rustix::fd::OwnedFd>,
}

impl Process {
    pub(crate) fn new(child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { child: Some(child), pid, pidfd: sys::watch(pidfd)? })
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the child has ended. It is not reaped yet, so that its process group can still be named safely. May be
    /// dropped and called again.
    pub(crate) async fn ended(&self) {
        // An error would mean that the descriptor is none, which `new` has ruled out.
        let _ = self.pidfd.readable().await;
    }

    /// Waits for the child to end by itself, for so long; whether it did.
    pub(crate) async fn ended_within(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.ended()).await.is_ok()
    }

    /// Sends a signal to the child and everything in its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.child.is_some() {
            // Failure means that the group has no member any more.
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// Kills whatever is left of the group and reaps the child.
    pub(crate) async fn end(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.ended().await;
        match self.child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::Error::other("the child was reaped before")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            // A killed child ends soon, but perhaps not now; waiting for it here could hold up an async thread.
            std::thread::spawn(move || child.wait());
        }
    }
}

//! A descriptor that tells when a child has ended.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// What the thread is called that waits for a child where the system does not.
const WAITER: &str = "child-waiter";

/// A descriptor that can be read from as soon as the child `pid` has ended, and before it is reaped.
///
/// Where the system knows no such descriptors, as under Valgrind with which `bench/guard` counts instructions, a thread waits for the
/// child, and ends with it.
pub(crate) fn descriptor(pid: Pid) -> io::Result<OwnedFd> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::NOSYS) => by_a_thread(pid),
        opened => Ok(opened?),
    }
}

fn by_a_thread(pid: Pid) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let wait = move || {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // Any other failure means that there is no such child any more.
        while matches!(waitid(WaitId::Pid(pid), ended), Err(Errno::INTR)) {}
        drop(writer);
    };
    std::thread::Builder::new().name(WAITER.to_owned()).spawn(wait)?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn a_thread_tells_of_the_end_of_a_child_that_has_yet_to_be_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let descriptor = by_a_thread(Pid::from_child(&child)).unwrap();
        let now = rustix::event::Timespec::default();
        let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
        assert_eq!(poll(&mut watched, Some(&now)).unwrap(), 0, "it lives");
        drop(child.stdin.take());
        assert_eq!(poll(&mut watched, None).unwrap(), 1);
        assert!(child.wait().unwrap().success(), "it is still there to be reaped");
    }
}

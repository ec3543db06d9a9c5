//! A second process that ends what the server can no longer end: when it is killed, the kernel ends its workers, but not what scripts
//! have started.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::family::Family;
use crate::kin::ServerMark;

/// The guard of a server. Dropping it sends it to work and waits for its end.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    family: Family,
}

impl Guard {
    /// Starts `command`, which must come to [`stand_guard`] with the rest of its arguments and its standard input.
    pub(crate) fn start(mut command: Command, mark: &ServerMark, family: &Family) -> io::Result<Self> {
        command.env_clear().current_dir("/").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = family.start(|| {
            let child = command.spawn()?;
            Ok((Pid::from_child(&child), child))
        })?;
        let mut guard = Self { child, family: family.clone() };
        // The mark is not on the command line, where others could read it and bear it.
        let mut stdin = guard.child.stdin.take().ok_or_else(|| io::Error::other("the guard has no standard input"))?;
        stdin.write_all(format!("{}\n", mark.as_str()).as_bytes())?;
        guard.child.stdin = Some(stdin);
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "the guard could not be reaped");
        }
        self.family.forget(Pid::from_child(&self.child));
    }
}

/// Waits until the server is gone, which is when nobody can write to `server` any more, and then kills what its workers have started.
/// The server's mark comes first.
///
/// # Errors
///
/// An [`io::Error`] if what comes is no mark.
pub fn stand_guard(mut server: impl Read) -> io::Result<()> {
    let mut told = String::new();
    server.read_to_string(&mut told)?;
    let mark = ServerMark::parse(told.trim_end()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no mark"))?;
    mark.kill_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn what_bears_the_servers_mark_ends_with_the_server() {
        let mark = ServerMark::random();
        let (name, worker) = ("WORKER_OF_DUNNAGE", mark.worker(3));
        assert_eq!(worker.variable().0, name);
        let mut left = Command::new("sleep").arg("60").env(name, worker.variable().1).spawn().unwrap();
        stand_guard(format!("{}\n", mark.as_str()).as_bytes()).unwrap();
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(stand_guard(&b""[..]).is_err());
    }
}

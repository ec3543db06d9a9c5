//! What a worker has started, and what that has started in turn: known by a mark in the environment, wherever it has gone.
//!
//! A process group ends with its members' wish to stay in it: a daemon leaves it. The environment is inherited by whatever does
//! not take pains to clear it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that workers and all they start bear. Not one of the server's own, which a script's children may be warned of.
const VARIABLE: &str = "WORKER_OF_DUNNAGE";
/// How long processes may go on starting others while they are killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone before it is looked at again.
const PAUSE: Duration = Duration::from_millis(2);

/// Marks the workers of one server, each with a number of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerMark(String);

/// Marks one worker and all it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WorkerMark(String);

impl ServerMark {
    pub(crate) fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// The mark that `text` holds; `None` where it is none of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_mark = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_mark.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn worker(&self, number: u64) -> WorkerMark {
        WorkerMark(format!("{}-{number}", self.0))
    }

    /// The worker that a process belongs to, if it is one of this server's.
    pub(crate) fn worker_of(&self, pid: Pid) -> Option<WorkerMark> {
        let variable = format!("{VARIABLE}=");
        let environment = environment(pid);
        let mut entries = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        let mark = entries.find_map(|entry| entry.strip_prefix(&variable))?;
        mark.strip_prefix(&self.0)?.starts_with('-').then(|| WorkerMark(mark.to_owned()))
    }

    /// Kills every process that bears the mark of one of the server's workers, and returns how many there were.
    pub(crate) fn kill_all(&self) -> usize {
        let beginning = format!("{VARIABLE}={}-", self.0);
        kill_where(&|entry| entry.starts_with(beginning.as_bytes()))
    }
}

impl WorkerMark {
    /// The variable and its value.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        (VARIABLE, &self.0)
    }

    /// Kills every process that bears the mark, and returns how many there were.
    pub(crate) fn kill_all(&self) -> usize {
        let whole = format!("{VARIABLE}={}", self.0);
        kill_where(&|entry| entry == whole.as_bytes())
    }
}

/// Kills what is found until nothing is: a process may start another in the moment before it is killed.
fn kill_where(is_marked: &dyn Fn(&[u8]) -> bool) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = std::collections::HashSet::new();
    loop {
        let found: Vec<_> = pids().filter(|pid| kill_if(*pid, is_marked)).collect();
        if found.is_empty() {
            return killed.len();
        }
        killed.extend(found);
        if Instant::now() > deadline {
            tracing::warn!(killed = killed.len(), "processes that a worker has started are still there after they were killed");
            return killed.len();
        }
        std::thread::sleep(PAUSE);
    }
}

/// Kills a process if it is marked. Its number is pinned down first, so that no other process can have it by then.
fn kill_if(pid: Pid, is_marked: &dyn Fn(&[u8]) -> bool) -> bool {
    if !bears(pid, is_marked) {
        return false;
    }
    // An error means that it has ended.
    let Ok(pinned) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    bears(pid, is_marked) && pidfd_send_signal(&pinned, Signal::KILL).is_ok()
}

/// Whether the environment that a process began with is marked. One that has ended has none, and others' cannot be read.
fn bears(pid: Pid, is_marked: &dyn Fn(&[u8]) -> bool) -> bool {
    environment(pid).split(|byte| *byte == 0).any(is_marked)
}

fn environment(pid: Pid) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// Every process there is, but this one.
pub(crate) fn pids() -> impl Iterator<Item = Pid> {
    let own = rustix::process::getpid();
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    let numbers = entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    numbers.filter(move |pid| *pid != own)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(mark: &WorkerMark) -> Child {
        let (name, value) = mark.variable();
        Command::new("sleep").arg("60").env(name, value).spawn().unwrap()
    }

    /// A program that has just been started has no environment for a moment.
    fn eventually_worker_of(server: &ServerMark, child: &Child) -> Option<WorkerMark> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let worker = server.worker_of(Pid::from_child(child));
            if worker.is_some() || Instant::now() > deadline {
                return worker;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn signal_of(mut child: Child) -> Option<i32> {
        child.wait().unwrap().signal()
    }

    #[test]
    fn only_what_bears_the_mark_is_killed() {
        let server = ServerMark::random();
        let (one, eleven, other) = (server.worker(1), server.worker(11), ServerMark::random().worker(1));
        let (mut of_eleven, mut of_other) = (sleeper(&eleven), sleeper(&other));
        let of_one = [sleeper(&one), sleeper(&one)];
        let worker_of = |child: &Child| eventually_worker_of(&server, child);
        assert_eq!(of_one.each_ref().map(worker_of), [Some(one.clone()), Some(one.clone())]);
        assert_eq!(server.worker_of(Pid::from_child(&of_other)), None);
        assert_eq!(one.kill_all(), 2);
        assert_eq!(of_one.map(signal_of), [Some(9), Some(9)]);
        assert!(of_eleven.try_wait().unwrap().is_none() && of_other.try_wait().unwrap().is_none());
        assert_eq!(server.kill_all(), 1);
        assert_eq!(signal_of(of_eleven), Some(9));
        assert!(of_other.try_wait().unwrap().is_none());
        assert_eq!(other.kill_all(), 1);
        assert_eq!(signal_of(of_other), Some(9));
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = ServerMark::random();
        assert_eq!(ServerMark::parse(mark.as_str()), Some(mark));
        assert_eq!([ServerMark::parse(""), ServerMark::parse(&"g".repeat(32))], [None, None]);
    }
}

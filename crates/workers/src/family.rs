//! The children of this process: those it has started, and those that came to it when their own parents had ended.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_loops::{Beat, Looping, Loops};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::kin;

/// Children are looked at so often even where no signal says that one has ended: several signals may be one.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long orphans may take to be gone once they have been killed.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait between two looks at that.
const END_PAUSE: Duration = Duration::from_millis(5);
/// Longer than a process's number, name, state and parent, which its line begins with.
const STAT_BYTES: usize = 256;

/// Which children are whose. Cheap to clone.
///
/// What a child of ours leaves behind when it ends becomes a child of ours, once [`Family::adopt_orphans`] has asked for that: daemons
/// that a script has started, and the children of those. Nobody but us can reap them. As process 1 of a container we get
/// everybody's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    /// Those that their own owners wait for.
    own: Arc<Mutex<HashSet<Pid>>>,
    /// Those that were there before us, from whatever became this program. They are reaped, but not killed.
    inherited: Arc<Mutex<HashSet<Pid>>>,
}

impl Family {
    /// Has `spawn` start a child that its owner will wait for. No orphan is reaped meanwhile, as a new child could be taken for one.
    pub(crate) fn start<T>(&self, spawn: impl FnOnce() -> io::Result<(Pid, T)>) -> io::Result<T> {
        let mut own = lock(&self.own);
        let (pid, child) = spawn()?;
        own.insert(pid);
        Ok(child)
    }

    /// Forgets a child that its owner has reaped.
    pub(crate) fn forget(&self, pid: Pid) {
        lock(&self.own).remove(&pid);
    }

    /// From now on orphans come to us, and are reaped when they end, for as long as the loop is held.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the system cannot do that; orphans then go to process 1.
    pub(crate) fn adopt_orphans(&self, loops: &Loops) -> io::Result<Looping> {
        let _possible = signal(SignalKind::child())?;
        let own = lock(&self.own);
        *lock(&self.inherited) = children().map(|child| child.pid).filter(|pid| !own.contains(pid)).collect();
        drop(own);
        set_child_subreaper(Some(getpid()))?;
        let family = self.clone();
        Ok(loops.start("reaper", move |beat| family.clone().reap_again_and_again(beat)))
    }

    async fn reap_again_and_again(self, beat: Beat) {
        let Ok(mut ends) = signal(SignalKind::child()) else { return };
        loop {
            let reaping = self.clone();
            if tokio::task::spawn_blocking(move || reaping.reap_orphans()).await.is_err() {
                // It panicked, which has been reported.
                return;
            }
            tokio::select! {
                _ = ends.recv() => {}
                () = beat.rest(LOOK_EVERY) => {}
            }
        }
    }

    /// Reaps the orphans that have ended, and returns how many that were.
    pub(crate) fn reap_orphans(&self) -> usize {
        let own = lock(&self.own);
        let ended = children().filter(|child| child.has_ended && !own.contains(&child.pid));
        ended.filter(|child| matches!(waitpid(Some(child.pid), WaitOptions::NOHANG), Ok(Some(_)))).count()
    }

    /// Kills the orphans there are, and what they leave to us, until none is left.
    pub(crate) fn end_orphans(&self) {
        let deadline = std::time::Instant::now() + END_PATIENCE;
        loop {
            let orphans = self.orphans();
            if orphans.is_empty() {
                return;
            }
            if std::time::Instant::now() > deadline {
                tracing::warn!(left = orphans.len(), "processes that scripts have started are still there after they were killed");
                return;
            }
            for orphan in orphans {
                // It is our child and nobody else reaps it, so that the number is still its own.
                let _ = kill_process(orphan, Signal::KILL);
            }
            std::thread::sleep(END_PAUSE);
            self.reap_orphans();
        }
    }

    fn orphans(&self) -> Vec<Pid> {
        let (own, inherited) = (lock(&self.own), lock(&self.inherited));
        let others = children().filter(|child| !own.contains(&child.pid) && !inherited.contains(&child.pid));
        others.map(|child| child.pid).collect()
    }
}

fn lock(pids: &Mutex<HashSet<Pid>>) -> MutexGuard<'_, HashSet<Pid>> {
    pids.lock().unwrap_or_else(PoisonError::into_inner)
}

struct ChildProcess {
    pid: Pid,
    has_ended: bool,
}

/// Our children, the ended ones included.
fn children() -> impl Iterator<Item = ChildProcess> {
    let own = getpid().to_string();
    kin::pids().filter_map(move |pid| {
        let stat = stat(pid).ok()?;
        // The name in parentheses may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        (fields.next()? == own).then(|| ChildProcess { pid, has_ended: state == "Z" })
    })
}

/// What the system says of a process, as far as its parent. It is asked of every process there is, so it is read in one go.
fn stat(pid: Pid) -> io::Result<String> {
    let mut text = [0; STAT_BYTES];
    let count = File::open(format!("/proc/{pid}/stat"))?.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..count]).into_owned())
}

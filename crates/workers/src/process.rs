//! One child process: noticed when it ends, killed with everything it started, and reaped.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::unix::AsyncFd;

use crate::ended;
use crate::launch::Belongings;
use crate::oom::OomKills;
use crate::sys;

/// How long a killed process may take to end before that is told. One that waits for a device that does not answer cannot end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A child that leads a process group of its own. Dropping it kills the child with all it has started, has it reaped and its temporary
/// files removed.
#[derive(Debug)]
pub(crate) struct Process {
    /// `None` once it is reaped: from then on its number may belong to another process.
    remains: Option<Remains>,
    pid: Pid,
    ending: AsyncFd<OwnedFd>,
}

/// What has to be cleared away when a child has ended.
#[derive(Debug)]
struct Remains {
    child: Child,
    belongings: Belongings,
}

impl Remains {
    /// Reaps the child, kills what it has left behind, and removes its files. Waits for all of it.
    fn clear(mut self) -> io::Result<ExitStatus> {
        let Belongings { mark, family, shared_memory, .. } = &self.belongings;
        let status = self.child.wait();
        family.forget(Pid::from_child(&self.child));
        match mark.kill_all() {
            0 => {}
            killed => tracing::info!(killed, "a worker had left processes of its own behind; they were killed"),
        }
        shared_memory.clear(mark);
        status
    }
}

impl Process {
    /// Takes over a child that has just been started. It ends where it cannot be watched.
    pub(crate) fn new(child: Child, belongings: Belongings) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let mut remains = Remains { child, belongings };
        match ended::descriptor(pid).and_then(sys::watch) {
            Ok(ending) => Ok(Self { remains: Some(remains), pid, ending }),
            Err(error) => {
                remains.child.kill()?;
                remains.clear()?;
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the child has ended. It is not reaped yet, so that its process group can still be named safely. May be
    /// dropped and called again; only whoever has called last is told.
    pub(crate) async fn ended(&self) {
        // An error would mean that the descriptor is none, which `new` has ruled out.
        let _ = poll_fn(|context| self.ending.poll_read_ready(context).map_ok(drop)).await;
    }

    /// Waits for the child to end by itself, for so long; whether it did.
    pub(crate) async fn ended_within(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.ended()).await.is_ok()
    }

    /// Sends a signal to the child and everything in its process group.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.remains.is_some() {
            // Failure means that the group has no member any more.
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// Who knows whether the system kills for want of memory.
    pub(crate) fn oom_kills(&self) -> Option<Arc<OomKills>> {
        self.remains.as_ref().map(|remains| Arc::clone(&remains.belongings.oom_kills))
    }

    /// Kills whatever is left of the group and of what left it, and reaps the child. Nothing takes its place before that: it may hold
    /// memory of a device, which comes free only then.
    pub(crate) async fn end(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        while !self.ended_within(KILL_PATIENCE).await {
            tracing::error!(pid = self.id(), "a worker was killed and does not end; a device may not answer");
        }
        let remains = self.remains.take().ok_or_else(|| io::Error::other("the child was reaped before"))?;
        tokio::task::spawn_blocking(|| remains.clear()).await.map_err(io::Error::other)?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(remains) = self.remains.take() {
            // A killed child ends soon, but perhaps not now; waiting for it here could hold up an async thread.
            std::thread::spawn(move || remains.clear());
        }
    }
}

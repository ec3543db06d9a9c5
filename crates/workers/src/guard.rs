//! A second process that ends what the server can no longer end: when it is killed, the kernel ends its workers, but not what scripts
//! have started.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_loops::{Beat, Looping, Loops};
use rustix::process::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::family::Family;
use crate::kin::ServerMark;

/// The name of the loop.
const GUARD: &str = "guard";
/// The guard is looked at so often even where no signal says that a child has ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// When no guard can be started, it is tried again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The guard of a server, in whose place comes another one when it ends. Dropping this sends it to work and waits for its end.
#[derive(Debug)]
pub(crate) struct Guard {
    post: Arc<Post>,
    keeping: Option<Looping>,
}

/// Where a guard stands.
struct Post {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    mark: ServerMark,
    family: Family,
    stationed: Mutex<Stationed>,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Post").field("stationed", &self.stationed).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Stationed {
    child: Option<Child>,
    /// No other one is to come.
    is_over: bool,
}

impl Guard {
    /// Starts what `command` makes, which must come to [`stand_guard`] with the rest of its arguments and its standard input. It is
    /// started again, as one of the `loops`, whenever it ends.
    pub(crate) fn start(
        command: impl Fn() -> Command + Send + Sync + 'static,
        mark: &ServerMark,
        family: &Family,
        loops: &Loops,
    ) -> io::Result<Self> {
        let (command, mark, family) = (Box::new(command), mark.clone(), family.clone());
        let post = Arc::new(Post { command, mark, family, stationed: Mutex::default() });
        post.station()?;
        let kept = Arc::clone(&post);
        let keeping = loops.start(GUARD, move |beat| Arc::clone(&kept).keep(beat));
        Ok(Self { post, keeping: Some(keeping) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.keeping.take());
        self.post.dismiss();
    }
}

impl Post {
    /// Sees to it that a guard stands here, and ends when that one has ended: too soon, so that it counts as a failure of the loop.
    async fn keep(self: Arc<Self>, beat: Beat) {
        while let Err(error) = self.station() {
            tracing::warn!(%error, "what scripts start would outlive this server now if it were killed");
            beat.rest(RETRY_AFTER).await;
        }
        while !self.has_ended() {
            self.wait_for_a_child(&beat).await;
        }
        tracing::warn!("the guard has ended, which looks after what scripts start; another one takes its place");
    }

    async fn wait_for_a_child(&self, beat: &Beat) {
        let Ok(mut ends) = signal(SignalKind::child()) else { return beat.rest(LOOK_EVERY).await };
        // It may have ended before the signal was listened for.
        if !self.has_ended() {
            tokio::select! {
                _ = ends.recv() => {}
                () = beat.rest(LOOK_EVERY) => {}
            }
        }
    }

    /// Starts a guard, unless there is one or none is wanted any more.
    fn station(&self) -> io::Result<()> {
        let mut stationed = self.stationed();
        if stationed.child.is_none() && !stationed.is_over {
            stationed.child = Some(self.start()?);
        }
        Ok(())
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = (self.command)();
        command.env_clear().current_dir("/").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut child = self.family.start(|| {
            let child = command.spawn()?;
            Ok((Pid::from_child(&child), child))
        })?;
        // The mark is not on the command line, where others could read it and bear it.
        let told = child.stdin.as_mut().map(|stdin| stdin.write_all(format!("{}\n", self.mark.as_str()).as_bytes()));
        match told.unwrap_or_else(|| Err(io::Error::other("the guard has no standard input"))) {
            Ok(()) => Ok(child),
            Err(error) => {
                self.reap(child);
                Err(error)
            }
        }
    }

    /// Whether the guard that stood here has ended, and nobody stands here now.
    fn has_ended(&self) -> bool {
        let mut stationed = self.stationed();
        let has_ended = stationed.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if has_ended && let Some(child) = stationed.child.take() {
            self.reap(child);
        }
        has_ended
    }

    fn dismiss(&self) {
        let mut stationed = self.stationed();
        stationed.is_over = true;
        if let Some(child) = stationed.child.take() {
            self.reap(child);
        }
    }

    /// Lets go of a guard, which sends it to work, and waits for its end.
    fn reap(&self, mut child: Child) {
        drop(child.stdin.take());
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "the guard could not be reaped");
        }
        self.family.forget(Pid::from_child(&child));
    }

    fn stationed(&self) -> MutexGuard<'_, Stationed> {
        self.stationed.lock().unwrap_or_else(PoisonError::into_inner)
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

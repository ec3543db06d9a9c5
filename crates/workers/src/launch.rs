//! The one thread that starts programs.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_loops::{Beat, Looping, Loops};
use rustix::process::Pid;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::family::Family;
use crate::guard::Guard;
use crate::kin::{ServerMark, WorkerMark};
use crate::oom::OomKills;
use crate::process::Process;
use crate::program::Runtime;
use crate::scratch::{Scratch, WorkerScratch};
use crate::shared_memory::SharedMemory;
use crate::sys;

/// What a worker does not get to see of the server's environment: its configuration and its credentials.
const WITHHELD_PREFIXES: [&str; 4] = ["DUNNAGE_", "AWS_", "PG", "DATABASE_URL"];

/// The name of the thread.
const LAUNCHER: &str = "launcher";
/// How long starting one program may take; its file may lie far away.
const LAUNCH_LIMIT: Duration = Duration::from_secs(60);

/// Starts programs, all from one thread that lives as long as the process.
///
/// The kernel kills a worker when the *thread* that started it ends (`PR_SET_PDEATHSIG`), so workers must not be started
/// from a thread that comes and goes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    requests: mpsc::UnboundedSender<Request>,
    shared: Arc<Shared>,
}

/// What all workers of a server have in common.
#[derive(Debug)]
struct Shared {
    /// Before the folder that they may be writing to.
    ahead: Mutex<Vec<Ahead>>,
    loops: Loops,
    mark: ServerMark,
    scratch: Scratch,
    shared_memory: SharedMemory,
    family: Family,
    oom_kills: Arc<OomKills>,
    started: AtomicU64,
    guard: Mutex<Option<Guard>>,
    reaper: Mutex<Option<Looping>>,
}

/// A program that is being started, or waits for somebody who wants it. Dropping this ends it.
#[derive(Debug)]
struct Ahead {
    runtime: Runtime,
    directory: PathBuf,
    launched: oneshot::Receiver<io::Result<Launched>>,
}

#[derive(Debug)]
struct Request {
    runtime: Runtime,
    directory: PathBuf,
    belongings: Belongings,
    /// Where whoever asked waits for the child to end.
    runtime_handle: Handle,
    respond: oneshot::Sender<io::Result<Launched>>,
}

/// What a worker has outside of its process, and what has to be seen to when that ends.
#[derive(Debug)]
pub(crate) struct Belongings {
    pub(crate) mark: WorkerMark,
    pub(crate) scratch: WorkerScratch,
    pub(crate) shared_memory: SharedMemory,
    pub(crate) family: Family,
    pub(crate) oom_kills: Arc<OomKills>,
}

/// A program that has just been started. Dropping it ends it, also on its way to somebody who no longer waits for it.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) socket: UnixStream,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Launcher {
    /// Starts the thread, which is one of the `loops`. It cannot be started again: the workers it has started would end. So a panic ends
    /// one start alone.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the system refuses another thread, a folder for temporary files, or a look at this process's own
    /// descriptors.
    pub fn start(loops: &Loops) -> io::Result<Self> {
        sys::withhold_inherited()?;
        let (requests, received) = mpsc::unbounded_channel::<Request>();
        let (watching, beat) = (loops.clone(), loops.beat(LAUNCHER));
        std::thread::Builder::new().name(LAUNCHER.to_owned()).spawn(move || launch_all(received, &watching, &beat))?;
        let (mark, scratch) = (ServerMark::random(), Scratch::make()?);
        let shared = Shared {
            ahead: Mutex::default(),
            loops: loops.clone(),
            shared_memory: SharedMemory::watch(loops, mark.clone(), scratch.notes()?),
            mark,
            scratch,
            family: Family::default(),
            oom_kills: Arc::new(OomKills::watch()),
            started: AtomicU64::new(0),
            guard: Mutex::new(None),
            reaper: Mutex::new(None),
        };
        Ok(Self { requests, shared: Arc::new(shared) })
    }

    /// Takes care of what scripts start for as long as this process lives, and beyond: orphans come to this process and are reaped,
    /// and `guard`, which makes a command that comes to [`crate::stand_guard`], ends them if this process is killed. What of it cannot
    /// be had is told in the log.
    pub fn look_after_orphans(&self, guard: impl Fn() -> Command + Send + Sync + 'static) {
        match self.shared.family.adopt_orphans(&self.shared.loops) {
            Ok(reaper) => *self.shared.reaper.lock().unwrap_or_else(PoisonError::into_inner) = Some(reaper),
            Err(error) => tracing::warn!(%error, "daemons that scripts start will not be reaped here"),
        }
        match Guard::start(guard, &self.shared.mark, &self.shared.family, &self.shared.loops) {
            Ok(guard) => *self.guard() = Some(guard),
            Err(error) => tracing::warn!(%error, "what scripts start will outlive this server if it is killed"),
        }
    }

    /// Ends everything that scripts have started and that is still there, once every worker has ended.
    pub async fn finish(&self) {
        let launcher = self.clone();
        let finishing = tokio::task::spawn_blocking(move || {
            launcher.ahead().clear();
            launcher.shared.mark.kill_all();
            launcher.shared.family.end_orphans();
            launcher.shared.shared_memory.clear_all();
            drop(launcher.guard().take());
        });
        if let Err(error) = finishing.await {
            tracing::error!(%error, "what scripts have started could not be ended");
        }
    }

    pub(crate) fn loops(&self) -> &Loops {
        &self.shared.loops
    }

    /// Starts `count` programs of the first workers of `script` without waiting for them: by the time that their workers are wanted, their
    /// interpreters run. Those that cannot be started, or have ended by then, are started again by whoever wants them and can say what is
    /// wrong.
    pub fn launch_ahead(&self, runtime: &Runtime, script: &Path, count: usize) {
        let directory = working_directory(script);
        for _ in 0..count {
            let Ok(launched) = self.request(runtime.clone(), directory.clone()) else { return };
            self.ahead().push(Ahead { runtime: runtime.clone(), directory: directory.clone(), launched });
        }
    }

    /// Starts the program of a worker of `script`, or hands over one that has been started ahead.
    pub(crate) async fn launch(&self, runtime: &Runtime, script: &Path) -> io::Result<Launched> {
        let directory = working_directory(script);
        while let Some(launched) = self.take_ahead(runtime, &directory) {
            if let Ok(Ok(launched)) = launched.await
                && !launched.process.ended_within(Duration::ZERO).await
            {
                return Ok(launched);
            }
        }
        self.request(runtime.clone(), directory)?.await.map_err(|_| gone())?
    }

    fn request(&self, runtime: Runtime, directory: PathBuf) -> io::Result<oneshot::Receiver<io::Result<Launched>>> {
        let (respond, launched) = oneshot::channel();
        let request = Request { runtime, directory, belongings: self.belongings()?, runtime_handle: Handle::current(), respond };
        self.requests.send(request).map_err(|_| gone())?;
        Ok(launched)
    }

    fn take_ahead(&self, runtime: &Runtime, directory: &Path) -> Option<oneshot::Receiver<io::Result<Launched>>> {
        let mut ahead = self.ahead();
        let place = ahead.iter().position(|ahead| ahead.runtime == *runtime && ahead.directory == directory)?;
        Some(ahead.remove(place).launched)
    }

    fn ahead(&self) -> MutexGuard<'_, Vec<Ahead>> {
        self.shared.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn belongings(&self) -> io::Result<Belongings> {
        let Shared { mark, scratch, shared_memory, family, oom_kills, started, .. } = &*self.shared;
        let number = started.fetch_add(1, Ordering::Relaxed);
        Ok(Belongings {
            mark: mark.worker(number),
            scratch: scratch.worker(number)?,
            shared_memory: shared_memory.clone(),
            family: family.clone(),
            oom_kills: Arc::clone(oom_kills),
        })
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.shared.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder that a script lies in.
fn working_directory(script: &Path) -> PathBuf {
    script.parent().unwrap_or(Path::new("/")).to_owned()
}

fn gone() -> io::Error {
    io::Error::other("the launcher thread has ended")
}

fn launch_all(mut received: mpsc::UnboundedReceiver<Request>, loops: &Loops, beat: &Beat) -> ! {
    while let Some(Request { runtime, directory, belongings, runtime_handle, respond }) = received.blocking_recv() {
        beat.within(LAUNCH_LIMIT);
        let _entered = runtime_handle.enter();
        let launched = catch_unwind(AssertUnwindSafe(|| launch(&runtime, &directory, belongings)));
        let launched = launched.unwrap_or_else(|_| {
            loops.note_restart(LAUNCHER);
            Err(io::Error::other("starting it panicked; the log says where"))
        });
        // Whoever asked may have gone.
        drop(respond.send(launched));
        beat.idle();
    }
    // The handles are all gone, but the workers they started may not be: stay until the process ends.
    loop {
        std::thread::park();
    }
}

fn launch(runtime: &Runtime, directory: &Path, belongings: Belongings) -> io::Result<Launched> {
    let (socket, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&runtime.program);
    command
        .args(&runtime.arguments)
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if is_withheld(&name) {
            command.env_remove(name);
        }
    }
    let (name, value) = belongings.mark.variable();
    command.env(name, value).env("TMPDIR", belongings.scratch.path()).envs(runtime.variables());
    sys::prepare(&mut command, sys::above_reserved(theirs)?);
    let mut child = belongings.family.start(|| {
        let child = command.spawn()?;
        Ok((Pid::from_child(&child), child))
    })?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let process = Process::new(child, belongings)?;
    let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("the child has no pipes"))?;
    Ok(Launched { process, socket, stdout, stderr })
}

/// Whether a variable may hold a secret of the server's.
fn is_withheld(name: &OsStr) -> bool {
    WITHHELD_PREFIXES.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

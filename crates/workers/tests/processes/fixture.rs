//! A folder, a script that acts on what `Params` say, a host that writes down what it hears, and a look into `/proc`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dunnage_loops::Loops;
use dunnage_protocol::{Answer, Artifact, AskError, CallId, Load, Operation, Request, Role, Run};
use dunnage_types::{JobId, JobKind, JsonObject, Progress, WorkerId};
use dunnage_workers::{Host, Launcher, Line, Pool, PoolSettings, Recycling, Runtime, StartError, Worker};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A line that the host cannot take.
pub(crate) const PANIC: &str = "this makes the host panic";

/// Where workers are started. Every process that comes from it carries its mark on the command line.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) host: Arc<Notebook>,
    launcher: Launcher,
    mark: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        static SITES: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.txt"), "acts").unwrap();
        let mark = format!("site-{}-{}.", std::process::id(), SITES.fetch_add(1, Ordering::Relaxed));
        Self { folder, host: Arc::default(), launcher: Launcher::start(&Loops::default()).unwrap(), mark }
    }

    pub(crate) fn with_script(self, text: &str) -> Self {
        std::fs::write(self.script(), text).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn script(&self) -> PathBuf {
        self.path().join("script.txt")
    }

    /// The runtime without a language, which stands in the folder of everything that has been built.
    pub(crate) fn runtime(&self) -> Runtime {
        let own = std::env::current_exe().unwrap();
        let program = own.ancestors().nth(2).unwrap().join("dunnage-fake");
        assert!(program.is_file(), "`{}` is missing; run `cargo build --workspace` first", program.display());
        Runtime { program, arguments: vec![self.mark.clone().into()], threads: 0 }
    }

    /// The same behind a shell that does something first. Ignored signals stay ignored, open descriptors open.
    pub(crate) fn runtime_after(&self, command: &str) -> Runtime {
        let Runtime { program, .. } = self.runtime();
        let line = format!("{command}; exec '{}' {}", program.display(), self.mark);
        Runtime { program: "/bin/sh".into(), arguments: vec!["-c".into(), line.into()], threads: 0 }
    }

    pub(crate) async fn start(&self, runtime: &Runtime, timeout: Duration) -> Result<Worker, StartError> {
        let load = Load {
            service: "test".parse().unwrap(),
            worker: WorkerId(1),
            role: Role::Job,
            script: self.script(),
            artifact: None,
            device: "cpu".to_owned(),
            descriptors: true,
        };
        Worker::start(&self.launcher, runtime, load, timeout, self.host.clone()).await
    }

    pub(crate) async fn worker(&self) -> Worker {
        self.start(&self.runtime(), PATIENCE).await.unwrap()
    }

    /// Starts programs before their workers are wanted.
    pub(crate) fn launch_ahead(&self, runtime: &Runtime, count: usize) {
        self.launcher.launch_ahead(runtime, &self.script(), count);
    }

    /// Gives up every handle of the launcher, and keeps what the workers need.
    pub(crate) fn without_launcher(self) -> (TempDir, Arc<Notebook>) {
        let Self { folder, host, launcher, .. } = self;
        drop(launcher);
        (folder, host)
    }

    pub(crate) fn settings(&self) -> PoolSettings {
        PoolSettings {
            service: "test".parse().unwrap(),
            script: self.script(),
            runtime: self.runtime(),
            device: "cpu".to_owned(),
            workers: 1,
            max_batch: 8,
            max_wait: Duration::ZERO,
            timeout: Duration::from_secs(10),
            max_queue: 100,
            max_queue_wait: Duration::ZERO,
            load_timeout: PATIENCE,
            recycling: Recycling::default(),
            max_output_bytes: 1 << 20,
            event_loops: Vec::new(),
        }
    }

    pub(crate) fn pool(&self, settings: PoolSettings) -> Pool {
        Pool::start(settings, self.launcher.clone(), self.host.clone(), None)
    }

    /// A pool that has yet to be told what to serve.
    pub(crate) fn new_pool(&self, settings: PoolSettings) -> Pool {
        Pool::new(settings, self.launcher.clone(), self.host.clone())
    }

    /// An artifact; one that is broken cannot be loaded.
    pub(crate) fn artifact(&self, version: u32, broken: bool) -> Artifact {
        let path = self.path().join(format!("artifact-{version}"));
        std::fs::create_dir(&path).unwrap();
        if broken {
            std::fs::write(path.join("broken"), "").unwrap();
        }
        Artifact { version, path }
    }

    /// The living processes of this site.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let is_ours = |pid: &i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&self.mark)
        };
        let entries = std::fs::read_dir("/proc").unwrap();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
    }

    /// The living processes that work in this site's folder, daemons included.
    pub(crate) fn marked(&self) -> Vec<i32> {
        let folder = self.path().canonicalize().unwrap();
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)).collect()
    }

    /// What a process is called, with its arguments.
    #[expect(clippy::unused_self, reason = "asked of the processes of this site")]
    pub(crate) fn command(&self, pid: i32) -> String {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
    }

    /// Waits until this site has so many processes, and returns them.
    pub(crate) async fn processes_become(&self, count: usize) -> Vec<i32> {
        eventually(&format!("{count} processes, not {:?}", self.processes()), || {
            Some(self.processes()).filter(|found| found.len() == count)
        })
        .await
    }
}

/// Calls `probe` until it has something, and fails when that takes too long.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs; one that has ended and was not reaped does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn send_signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) fn params(value: Value) -> JsonObject {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn request(value: Value) -> Request {
    Request { request_id: "test".to_owned(), files: Vec::new(), params: params(value) }
}

/// A request that comes back as the first number of its answer.
pub(crate) fn echo(number: u32) -> Request {
    request(json!({"x": number}))
}

pub(crate) fn run(value: Value) -> Run {
    Run {
        call: CallId(0),
        deadline: None,
        kind: JobKind::Train,
        job: JobId::random(),
        attempt: 1,
        seed: 1,
        files: Vec::new(),
        params: params(value),
    }
}

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A host that knows nothing and writes down what it hears.
#[derive(Default)]
pub(crate) struct Notebook {
    lines: Mutex<Vec<String>>,
    progress: Mutex<Vec<Progress>>,
}

impl Notebook {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until the script has begun to sleep, and has the worker to itself.
    pub(crate) async fn hears_sleep(&self) {
        eventually("the script sleeps", || self.lines().contains(&"sleeping".to_owned()).then_some(())).await;
    }

    pub(crate) fn progress_count(&self) -> usize {
        self.progress.lock().unwrap().len()
    }
}

#[async_trait]
impl Host for Notebook {
    async fn answer(&self, _operation: Operation) -> Result<Answer, AskError> {
        Err(AskError { code: "not_allowed".to_owned(), message: "there is no state here".to_owned() })
    }

    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }

    fn line(&self, line: Line) {
        assert_ne!(line.message, PANIC, "as a mistake of ours would");
        self.lines.lock().unwrap().push(line.message);
    }
}

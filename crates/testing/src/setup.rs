//! What a service runs on: a script, folders, flags, an environment.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::census::{self, eventually};
use crate::language::Language;
use crate::service::{START_PATIENCE, Service};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
/// What stands beside the binary once everything has been built.
pub const BUILT_BESIDE: [&str; 3] = ["dunnage-python", "libdunnage_python.so", "dunnage-lua"];

/// A script, its folders and its flags. Services started from it one after the other are lives of one and the same; services
/// that run at once are its replicas.
pub struct Setup {
    folder: TempDir,
    binary: PathBuf,
    script: PathBuf,
    serves_local_files: bool,
    port: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// With one of the scripts in `crates/testing/scripts`.
    ///
    /// # Panics
    ///
    /// When there is no such script.
    #[must_use]
    pub fn new(language: Language, name: &str) -> Self {
        Self::inline(language, name, &script(language, name))
    }

    /// With a script that stands in the test.
    ///
    /// # Panics
    ///
    /// When the script cannot be written.
    #[must_use]
    pub fn inline(language: Language, name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = folder.path().join(name).with_extension(language.extension());
        std::fs::write(&script, text).expect("the script can be written");
        std::fs::create_dir(folder.path().join("files")).expect("a folder for files");
        let (binary, flags, environment) = (built_dunnage(), Vec::new(), Vec::new());
        Self { folder, binary, script, serves_local_files: true, port: 0, flags, environment }
    }

    /// The same folders and flags with another script beside the first.
    ///
    /// # Panics
    ///
    /// When the script cannot be written.
    #[must_use]
    pub fn with_script(mut self, language: Language, text: &str) -> Self {
        self.script.set_extension(language.extension());
        std::fs::write(&self.script, text).expect("the script can be written");
        self
    }

    /// More flags of `dunnage serve`.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Another `dunnage` than the one that was built; its runtimes must lie beside it.
    #[must_use]
    pub fn binary(self, binary: PathBuf) -> Self {
        Self { binary, ..self }
    }

    /// On this port, and not on any that is free.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Without `--files-root`.
    #[must_use]
    pub fn without_files_root(self) -> Self {
        Self { serves_local_files: false, ..self }
    }

    /// One more entry of the services' environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder that everything lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The script's file.
    #[must_use]
    pub fn script(&self) -> &Path {
        &self.script
    }

    /// The folder that `--data-dir` names.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The service's own part of a folder in its data folder.
    ///
    /// # Panics
    ///
    /// Never: scripts have names.
    #[must_use]
    pub fn data(&self, what: &str) -> PathBuf {
        let name = self.script.file_stem().expect("a script has a name");
        self.data_dir().join(what).join(name)
    }

    /// The folder that `--files-root` names.
    #[must_use]
    pub fn files_root(&self) -> PathBuf {
        self.folder().join("files")
    }

    /// Writes a file below the files root, and returns its address.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, contents: &str) -> String {
        let path = self.files_root().join(name);
        std::fs::write(&path, contents).expect("the file can be written");
        format!("file://{}", path.display())
    }

    /// A body with one small file and these `Params`.
    #[must_use]
    pub fn body(&self, params: Value) -> Value {
        json!({"Files": [self.file("walk.csv", "1,2,3\n")], "Params": params})
    }

    /// Starts a service and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not get ready in time.
    pub fn start(&self) -> Service {
        self.start_with(&[])
    }

    /// Like [`Setup::start`], with flags that are this one's only.
    ///
    /// # Panics
    ///
    /// As [`Setup::start`] does.
    pub fn start_with(&self, flags: &[&str]) -> Service {
        let service = self.launch_with(flags);
        eventually("the service is ready", START_PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
        service
    }

    /// Like [`Setup::start`], with a data folder of its own: a replica that shares none.
    ///
    /// # Panics
    ///
    /// As [`Setup::start`] does.
    pub fn start_apart(&self, data_dir: &str) -> Service {
        let service = self.launch_apart(data_dir);
        eventually("the service is ready", START_PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
        service
    }

    /// Like [`Setup::launch`], with a data folder of its own.
    ///
    /// # Panics
    ///
    /// As [`Setup::launch`] does.
    #[must_use]
    pub fn launch_apart(&self, data_dir: &str) -> Service {
        let mark = next_mark();
        Service::spawn(&mut self.command_in(&self.folder().join(data_dir), &mark), mark)
    }

    /// Starts a service and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not listen in time.
    #[must_use]
    pub fn launch(&self) -> Service {
        self.launch_with(&[])
    }

    /// Like [`Setup::launch`], with flags that are this one's only.
    ///
    /// # Panics
    ///
    /// As [`Setup::launch`] does.
    #[must_use]
    pub fn launch_with(&self, flags: &[&str]) -> Service {
        let mark = next_mark();
        Service::spawn(self.command(&mark).args(flags), mark)
    }

    /// Runs `serve` where it is expected to refuse, and returns how it ended with what it said.
    ///
    /// # Panics
    ///
    /// When it does not refuse in time, or leaves processes behind.
    #[must_use]
    pub fn refused(&self) -> (ExitStatus, String) {
        let mark = next_mark();
        let mut child = self.command(&mark).spawn().expect("the binary can be started");
        let deadline = Instant::now() + START_PATIENCE;
        while child.try_wait().expect("it is our child").is_none() {
            if Instant::now() > deadline {
                child.kill().expect("it is our child");
                panic!("a service started that should have refused to");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().expect("it is our child");
        let left = census::marked(&mark);
        assert!(left.is_empty(), "a service that did not start left processes: {left:?}");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs `serve`, sends it a signal, such as `TERM`, after a while, and returns how it ended, how long after the signal that was, and
    /// what it had said.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or leaves processes behind.
    #[must_use]
    pub fn interrupted(&self, after: Duration, signal: &str) -> (ExitStatus, Duration, String) {
        self.interrupted_once(|| std::thread::sleep(after), signal)
    }

    /// Like [`Setup::interrupted`], when `wait` has returned.
    ///
    /// # Panics
    ///
    /// As [`Setup::interrupted`] does.
    #[must_use]
    pub fn interrupted_once(&self, wait: impl FnOnce(), signal: &str) -> (ExitStatus, Duration, String) {
        let mark = next_mark();
        let mut child = self.command(&mark).spawn().expect("the binary can be started");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(wait)) {
            // A test that fails leaves nothing running.
            child.kill().expect("it is our child");
            resume_unwind(panic);
        }
        let sent = Instant::now();
        crate::service::signal(i32::try_from(child.id()).expect("process numbers are small"), signal);
        while child.try_wait().expect("it is our child").is_none() {
            if sent.elapsed() > START_PATIENCE {
                child.kill().expect("it is our child");
                panic!("a service does not end that got SIG{signal}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = sent.elapsed();
        let output = child.wait_with_output().expect("it is our child");
        eventually("nothing is left", Duration::from_secs(2), || census::marked(&mark).is_empty().then_some(()));
        (output.status, took, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Like [`Setup::start`], but what it says goes to `log`, so that the port must have been chosen ([`Setup::port`]).
    ///
    /// # Panics
    ///
    /// When it does not get ready in time.
    pub fn start_unheard(&self, log: impl Into<Stdio>) -> Service {
        let mark = next_mark();
        let service = Service::unheard(self.command(&mark).stderr(log), mark, self.port);
        let is_ready = || {
            let asked = crate::http::Request::new("GET", "/healthz/ready").send(service.address());
            asked.is_ok_and(|answer| answer.status == 200).then_some(())
        };
        eventually("the service is ready", START_PATIENCE, is_ready);
        service
    }

    /// Like [`Setup::start`], with its standard output going there.
    ///
    /// # Panics
    ///
    /// When it does not get ready in time.
    pub fn start_writing(&self, output: impl Into<Stdio>) -> Service {
        let mark = next_mark();
        let service = Service::spawn(self.command(&mark).stdout(output), mark);
        eventually("the service is ready", START_PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
        service
    }

    fn command(&self, mark: &str) -> Command {
        self.command_in(&self.data_dir(), mark)
    }

    fn command_in(&self, data_dir: &Path, mark: &str) -> Command {
        require_built(&self.binary);
        // Whoever runs the tests in the background has the interrupt ignored, which programs inherit.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(&self.binary);
        let own_settings = |name: &OsStr| name.as_encoded_bytes().starts_with(b"DUNNAGE_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| own_settings(name)) {
            command.env_remove(name);
        }
        let (name, value) = mark.split_once('=').expect("a mark is an entry of the environment");
        command
            .arg("serve")
            .arg(&self.script)
            .args(["--port", &self.port.to_string(), "--log-format", "json", "--log-level", "debug"])
            .args(["--data-dir".as_ref(), data_dir.as_os_str()])
            .args(&self.flags)
            .current_dir(self.folder())
            .env_remove("VIRTUAL_ENV")
            .env(name, value)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if self.serves_local_files {
            command.arg("--files-root").arg(self.files_root());
        }
        command
    }
}

/// The text of one of the scripts in `crates/testing/scripts`.
///
/// # Panics
///
/// When there is no such script.
#[must_use]
pub fn script(language: Language, name: &str) -> String {
    let source = Path::new(SCRIPTS).join(name).with_extension(language.extension());
    std::fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()))
}

/// An entry of the environment by which the processes of one service are known. Workers and what they start inherit it.
fn next_mark() -> String {
    static LIVES: AtomicU32 = AtomicU32::new(0);
    format!("SERVICE_UNDER_TEST={}-{}", std::process::id(), LIVES.fetch_add(1, Ordering::Relaxed))
}

/// Names another `dunnage` than the one that was built, so that tests can be seen to fail where it is at fault.
pub const BINARY_UNDER_TEST: &str = "DUNNAGE_BINARY_UNDER_TEST";

/// The `dunnage` to test: the one that [`BINARY_UNDER_TEST`] names, or else the one that was built with the running test.
///
/// # Panics
///
/// Never in a test, which cargo runs from `target/PROFILE/deps`.
#[must_use]
pub fn built_dunnage() -> PathBuf {
    if let Some(named) = std::env::var_os(BINARY_UNDER_TEST) {
        return named.into();
    }
    built("dunnage")
}

/// A program that was built with the running test.
///
/// # Panics
///
/// Never in a test, which cargo runs from `target/PROFILE/deps`.
#[must_use]
pub fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in a folder of the profile's folder");
    profile.join(program)
}

fn require_built(binary: &Path) {
    for name in BUILT_BESIDE.into_iter().chain(["dunnage"]) {
        let path = binary.with_file_name(name);
        assert!(path.is_file(), "`{}` is missing; run `cargo build --workspace` first", path.display());
    }
}

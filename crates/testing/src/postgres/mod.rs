//! A private PostgreSQL for tests. Nothing has to be started by hand, and nothing is left when the tests have ended.

mod pooler;
mod programs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::keeper::Keeper;
pub use pooler::Pooler;
use programs::{Programs, as_owner};

use crate::port;

/// How many ports are tried, should others take the free one that was found.
const STARTS: u32 = 5;
/// How long a cluster may take to start or stop. Recovery writes every file to disk, which others may keep busy.
const PATIENCE_SECONDS: u32 = 180;
/// Small, since several clusters may run at once beside the tests.
const SETTINGS: [(&str, &str); 6] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("max_wal_size", "256MB"),
    ("timezone", "UTC"),
    ("fsync", "off"),
];

/// A PostgreSQL of its own, in a temporary folder, on a free port of the loopback.
///
/// It trusts whoever can reach it, speaks UTF-8 and has the locale `C.UTF-8`. Unless told otherwise it does without `fsync`:
/// that loses nothing when processes are killed, only when the machine is. Dropping it stops it and removes its folder; so does
/// the end of this process, whichever it is.
pub struct Cluster {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    _keeper: Keeper,
}

impl Cluster {
    /// Starts a cluster, and waits until it accepts connections.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start; the text says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`Cluster::start`], with lines of `postgresql.conf` that go before the usual ones, such as `("fsync", "on")`.
    ///
    /// # Panics
    ///
    /// As [`Cluster::start`] does.
    #[must_use]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let programs = Programs::find();
        let folder = temporary_folder();
        let keeper = Keeper::start(&folder, control(&programs, &folder).args(["stop", "--mode=immediate", "--silent"]));
        let mut cluster = Self { programs, folder, port: 0, databases: AtomicU32::new(0), _keeper: keeper };
        cluster.initialize(settings);
        cluster.start_on_a_free_port();
        cluster
    }

    /// The one cluster of this process, started by the first who asks.
    ///
    /// # Panics
    ///
    /// As [`Cluster::start`] does.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Makes an empty database that nobody else uses, and returns its address.
    ///
    /// # Panics
    ///
    /// When the cluster does not run.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of a database, as `--database-url` takes it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens on the loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket, data and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs statements in a database, named or by its address, and returns the rows: a line each, fields separated by `|`.
    ///
    /// # Panics
    ///
    /// When a statement fails, or the cluster does not run.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let name = database.rsplit('/').next().unwrap_or(database);
        let mut psql = self.programs.command("psql");
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres"]);
        psql.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string(), "--dbname", name, "--command", statements]);
        run(&mut psql).trim_end().to_owned()
    }

    /// Kills every server process where it stands, as a crash would, and starts the cluster again.
    ///
    /// # Panics
    ///
    /// When it does not start again.
    pub fn restart_immediately(&self) {
        run(self.control().args(["restart", "--mode=immediate", "--wait"]));
    }

    /// Ends all connections and stops; until [`Cluster::start_again`], connecting is refused.
    ///
    /// # Panics
    ///
    /// When it does not stop.
    pub fn stop(&self) {
        run(self.control().args(["stop", "--mode=fast", "--wait"]));
    }

    /// Starts the cluster that was stopped, on the same port with the same data.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_again(&self) {
        run(&mut self.starting(self.port));
    }

    fn initialize(&self, settings: &[(&str, &str)]) {
        let mut initdb = self.programs.command("initdb");
        initdb.arg("--pgdata").arg(data(&self.folder));
        run(initdb.args(["--auth=trust", "--username=postgres", "--locale=C.UTF-8", "--encoding=UTF8", "--no-sync"]));
        // Of lines that set the same thing, the last counts.
        for (name, value) in SETTINGS.iter().chain(settings) {
            let line = format!("{name} = '{value}'\n");
            let append = ["-c", "printf %s \"$1\" >> \"$2\"", "sh", &line];
            run(as_owner("sh").args(append).arg(data(&self.folder).join("postgresql.conf")));
        }
    }

    fn start_on_a_free_port(&mut self) {
        for tries_left in (0..STARTS).rev() {
            self.port = port::free();
            let output = output(&mut self.starting(self.port));
            if output.status.success() {
                return;
            }
            assert!(tries_left > 0, "PostgreSQL does not start: {}\n{}", said(&output), self.log());
        }
    }

    fn starting(&self, port: u16) -> Command {
        let options = format!("-p {port} -k {}", self.folder.display());
        let mut start = self.control();
        start.args(["start", "--wait", "--silent", "--options", &options]);
        start
    }

    /// With a log: a server without one would keep the standard output of `pg_ctl`, which is then never at its end.
    fn control(&self) -> Command {
        let mut control = control(&self.programs, &self.folder);
        control.arg("--log").arg(self.folder.join("log")).args(["--timeout", &PATIENCE_SECONDS.to_string()]);
        control
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn control(programs: &Programs, folder: &Path) -> Command {
    let mut control = programs.command("pg_ctl");
    control.arg("--pgdata").arg(data(folder));
    control
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Below `/tmp`, whatever `TMPDIR` says: the address of a Unix socket has at most 107 bytes, and PostgreSQL's user must be able
/// to get there.
fn temporary_folder() -> PathBuf {
    PathBuf::from(run(as_owner("mktemp").args(["--directory", "/tmp/dunnage-postgres-XXXXXXXX"])).trim_end())
}

/// Runs a command to its good end, and returns what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?} failed: {}", said(&output));
    String::from_utf8(output.stdout).expect("programs print UTF-8")
}

#[track_caller]
fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

fn said(output: &Output) -> String {
    format!("{} {}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

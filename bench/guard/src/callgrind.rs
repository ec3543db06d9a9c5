//! Runs programs under callgrind.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use tempfile::TempDir;

/// One run under callgrind. Its folder goes with it.
pub(crate) struct Callgrind {
    folder: TempDir,
}

impl Callgrind {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir().context("there is no room for temporary files")? })
    }

    /// A folder for what the program makes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command that runs `program` under callgrind. What it says goes to the file [`Callgrind::said`]. Programs that it starts
    /// itself are not counted.
    ///
    /// It sees nothing of this program's environment, whose size alone would move its stack and with it the count. Threads take turns in
    /// the order in which they ask.
    pub(crate) fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let said = File::create(self.said()).context("the output cannot be kept")?;
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--vgdb=no", "--fair-sched=yes"])
            .arg(format!("--callgrind-out-file={}", self.profile().display()))
            .arg(program)
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")])
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(said.try_clone().context("the output cannot be kept")?)
            .stderr(said);
        Ok(command)
    }

    /// Runs a program to its end; how many instructions that took.
    pub(crate) fn count(&self, program: &Path, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<u64> {
        let status = self.command(program)?.args(arguments).status().context("`valgrind` cannot be run; install it")?;
        if !status.success() {
            bail!("the run ended with {status}:\n{}", self.words());
        }
        self.total()
    }

    /// How many instructions were counted until the program ended.
    pub(crate) fn total(&self) -> anyhow::Result<u64> {
        let profile = std::fs::read_to_string(self.profile()).context("callgrind has left no profile")?;
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")).context("callgrind's profile has no total")?;
        total.trim().parse().with_context(|| format!("callgrind's total `{total}` is no number"))
    }

    /// Where everything goes that the program and callgrind print.
    pub(crate) fn said(&self) -> PathBuf {
        self.folder().join("said")
    }

    /// What the program and callgrind have printed, for whoever has to find out what went wrong.
    pub(crate) fn words(&self) -> String {
        std::fs::read_to_string(self.said()).unwrap_or_else(|error| format!("(its output cannot be read: {error})"))
    }

    fn profile(&self) -> PathBuf {
        self.folder().join("profile")
    }
}

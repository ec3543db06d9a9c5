//! Where PostgreSQL's programs are, and as whom they run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian keeps every version's programs; few of them are on the `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whom Debian's package makes for the purpose.
const OWNER: &str = "postgres";

/// How long one may take, lest a test that waits for a disk waits for ever. Servers are left by theirs and have no such limit.
const LIMIT: &str = "300s";

/// The folder of PostgreSQL's programs.
pub(super) struct Programs(PathBuf);

impl Programs {
    /// Those of the newest version that has a server.
    pub(super) fn find() -> Self {
        let has_server = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("pg_ctl").is_file();
        let found = debian_versions().into_iter().chain(path_folders()).find(has_server);
        Self(found.unwrap_or_else(|| {
            panic!(
                "PostgreSQL's `initdb` and `pg_ctl` are neither below {VERSIONS} nor on the PATH; \
                 install them with `tools/setup.sh test`, or with `apt-get install postgresql`"
            )
        }))
    }

    pub(super) fn command(&self, name: &str) -> Command {
        as_owner(self.0.join(name))
    }
}

/// A program run as an ordinary user, since PostgreSQL refuses to run as root, and for a limited time.
pub(super) fn as_owner(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIMIT]);
    if rustix::process::geteuid().is_root() {
        command.args(["setpriv", "--reuid", OWNER, "--regid", OWNER, "--clear-groups"]);
    }
    command.arg(program);
    // Settings of whoever runs the tests, such as PGHOST, are not meant for us.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    // The owner may not be allowed into the current folder.
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// A program of a package of its own, looked for on the `PATH` and in `also`.
pub(super) fn find_program(name: &str, also: &[&str]) -> PathBuf {
    let folders = path_folders().into_iter().chain(also.iter().map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is not on the PATH; install it with `tools/setup.sh test`, or with `apt-get install {name}`")
    })
}

/// The newest first.
fn debian_versions() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(VERSIONS).into_iter().flatten().filter_map(Result::ok);
    let mut versions: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.iter().map(|version| Path::new(VERSIONS).join(version.to_string()).join("bin")).collect()
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

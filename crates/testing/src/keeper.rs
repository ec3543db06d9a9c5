//! What ends a server with the process that started it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its standard input, then runs a command and removes a folder.
const SCRIPT: &str = "cat > /dev/null; folder=$1; shift; \"$@\"; rm -rf -- \"$folder\"";

/// Stops a server and removes its folder when it is dropped, or else when this process ends.
///
/// It is a shell at the other end of a pipe. The kernel closes our end however we end: by return, where statics are not dropped;
/// by a panic, an abort, or SIGKILL. `PR_SET_PDEATHSIG` would not do: it is forgotten when a process changes its user, it is
/// tied to the thread that started the server, which for a test soon ends, and it removes no folder. The shell has a process
/// group of its own, so that Ctrl-C at a terminal does not end it too early.
pub(crate) struct Keeper(Child);

impl Keeper {
    pub(crate) fn start(folder: &Path, stop: &Command) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "keeper"]).arg(folder).arg(stop.get_program()).args(stop.get_args());
        shell.current_dir("/").process_group(0);
        // Whoever reads what the tests print must not have to wait for the shell as well.
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(shell.spawn().expect("there is a shell"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It cannot fail: the shell is our child, and nobody else waits for it.
        let _ = self.0.wait();
    }
}

//! A server program that ends with this process.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::keeper::Keeper;
use crate::port;

/// How long a server may take to listen, beside everything else that tests do.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How many ports are tried, should others take the free one that was found.
const STARTS: u32 = 5;

/// A running server with a temporary folder. Dropping it ends it and removes the folder; so does the end of this process, whichever
/// it is.
pub(super) struct ServerProcess {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    _keeper: Keeper,
}

impl ServerProcess {
    /// Starts the program that `command` makes of its folder and its port, and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub(super) fn start(name: &str, command: impl Fn(&Path, u16) -> Command) -> Self {
        for tries_left in (0..STARTS).rev() {
            let mut started = Self::start_on(name, port::free(), &command);
            if started.listens() {
                return started;
            }
            assert!(tries_left > 0, "{name} does not start:\n{}", started.log());
        }
        unreachable!("the last try returns or panics")
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn start_on(name: &str, port: u16, command: &impl Fn(&Path, u16) -> Command) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("dunnage-{name}-")).tempdir().expect("a temporary folder").keep();
        let log = std::fs::File::create(folder.join("log")).expect("a log can be made");
        let mut command = command(&folder, port);
        command.current_dir(&folder).stdin(Stdio::null()).stdout(log.try_clone().expect("a log can be shared")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let mut kill = Command::new("kill");
        kill.args(["-KILL", &child.id().to_string()]);
        let keeper = Keeper::start(&folder, &kill);
        Self { child, folder, address: (Ipv4Addr::LOCALHOST, port).into(), _keeper: keeper }
    }

    /// Whether it comes to listen before it ends.
    fn listens(&mut self) -> bool {
        let begin = std::time::Instant::now();
        while begin.elapsed() < START_PATIENCE {
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

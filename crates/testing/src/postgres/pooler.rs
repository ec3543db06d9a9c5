//! pgbouncer between a client and a cluster.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::programs::{as_owner, find_program};
use super::{Cluster, output, run, said, temporary_folder};
use crate::census::eventually;
use crate::keeper::Keeper;
use crate::port;

/// How long a pooler may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How many ports are tried, should others take the free one that was found.
const STARTS: u32 = 5;

/// pgbouncer in transaction mode: each transaction of a client may run on another connection to the server, so that nothing that
/// belongs to a session can be relied on.
///
/// It ends as a [`Cluster`] does.
pub struct Pooler {
    folder: PathBuf,
    port: u16,
    _keeper: Keeper,
}

impl Pooler {
    /// Starts a pooler in front of every database of a cluster, with at most `connections` to each.
    ///
    /// # Panics
    ///
    /// When pgbouncer is not installed or does not start.
    #[must_use]
    pub fn start(cluster: &Cluster, connections: u32) -> Self {
        let folder = temporary_folder();
        let keeper = Keeper::start(&folder, &stop(&folder));
        let mut pooler = Self { folder, port: 0, _keeper: keeper };
        for tries_left in (0..STARTS).rev() {
            pooler.port = port::free();
            pooler.configure(cluster, connections);
            let output = output(pooler.program().arg("--daemon").arg(pooler.folder.join("pooler.ini")));
            if output.status.success() {
                break;
            }
            assert!(tries_left > 0, "pgbouncer does not start: {}", said(&output));
        }
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, pooler.port)).ok().map(drop);
        eventually("pgbouncer listens", START_PATIENCE, listens);
        pooler
    }

    /// The address of a database, as the cluster has it, by way of the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let name = database.rsplit('/').next().unwrap_or(database);
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    fn configure(&self, cluster: &Cluster, connections: u32) {
        let (port, folder) = (self.port, self.folder.display());
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\npool_mode = transaction\nauth_type = any\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nlogfile = {folder}/log\npidfile = {folder}/pid\nmax_client_conn = 500\n\
             default_pool_size = {connections}\nserver_login_retry = 1\n\
             server_idle_timeout = 2\n",
            cluster.port()
        );
        let write = ["-c", "printf %s \"$1\" > \"$2\"", "sh", &configuration];
        run(as_owner("sh").args(write).arg(self.folder.join("pooler.ini")));
    }

    fn program(&self) -> Command {
        as_owner(find_program("pgbouncer", &["/usr/sbin"]))
    }
}

/// Ends it at once.
fn stop(folder: &Path) -> Command {
    let mut kill = as_owner("sh");
    kill.args(["-c", "kill -TERM \"$(cat \"$1\")\"", "sh"]).arg(folder.join("pid"));
    kill
}

//! A private PostgreSQL starts, forgets nothing that was committed, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dunnage_testing::postgres::{Cluster, Pooler};

/// How long a stopped cluster may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn each_database_is_empty_and_its_own() {
    let cluster = Cluster::shared();
    let (first, second) = (cluster.database(), cluster.database());
    assert_ne!(first, second);
    cluster.sql(&first, "CREATE TABLE thing (name text); INSERT INTO thing VALUES ('a'), ('ü')");
    assert_eq!(cluster.sql(&first, "SELECT name, length(name) FROM thing ORDER BY 1"), "a|1\nü|1");
    assert_eq!(cluster.sql(&second, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    let settings = "SELECT current_setting('server_encoding'), datcollate FROM pg_database WHERE datname = current_database()";
    assert_eq!(cluster.sql(&first, settings), "UTF8|C.UTF-8");
}

#[test]
fn what_was_committed_survives_an_immediate_restart() {
    let cluster = Cluster::start_with(&[("fsync", "on")]);
    let database = cluster.database();
    assert_eq!(cluster.sql(&database, "SHOW fsync"), "on");
    cluster.sql(&database, "CREATE TABLE thing (number int); INSERT INTO thing VALUES (7)");
    let started = "SELECT pg_postmaster_start_time()";
    let before = cluster.sql(&database, started);
    cluster.restart_immediately();
    assert_ne!(cluster.sql(&database, started), before);
    assert_eq!(cluster.sql(&database, "SELECT number FROM thing"), "7");
}

#[test]
fn a_stopped_cluster_refuses_until_it_is_started_again() {
    let cluster = Cluster::start();
    let connect = || std::net::TcpStream::connect(("127.0.0.1", cluster.port()));
    cluster.stop();
    assert!(connect().is_err());
    cluster.start_again();
    assert!(connect().is_ok());
}

#[test]
fn a_pooler_gives_each_transaction_the_connection_it_likes() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, 1);
    let url = pooler.url(&cluster.database());
    let psql = |statement: &str| {
        let output = Command::new("psql").args(["-XAtq", &url, "-c", statement]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let first = psql("SET work_mem = '123kB'; SELECT pg_backend_pid()");
    assert!(first.parse::<u32>().is_ok(), "{first}");
    assert_eq!(psql("SELECT pg_backend_pid()"), first, "clients share it");
    assert_eq!(psql("SHOW work_mem"), "123kB", "what a session sets, others find");
    cluster.restart_immediately();
    let begin = Instant::now();
    while psql("SELECT 1") != "1" {
        assert!(begin.elapsed() < END_PATIENCE, "it does not find the restarted cluster");
    }
}

#[test]
fn a_dropped_cluster_leaves_nothing() {
    let cluster = Cluster::start();
    let (folder, server) = (cluster.folder().to_owned(), postmaster(cluster.folder()));
    assert!(server.exists());
    drop(cluster);
    assert!(!folder.exists());
    require_gone(&server);
}

/// Has this test binary start a cluster in another process, which then waits.
const STARTS_AND_WAITS: &str = "STARTS_AND_WAITS";

#[test]
fn a_killed_process_leaves_nothing() {
    if std::env::var_os(STARTS_AND_WAITS).is_some() {
        eprintln!("folder={}", Cluster::shared().folder().display());
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    for killed in [true, false] {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_process_leaves_nothing", "--nocapture"])
            .env(STARTS_AND_WAITS, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let folder = said.find_map(|line| line.strip_prefix("folder=").map(PathBuf::from)).unwrap();
        let server = postmaster(&folder);
        assert!(server.exists());
        if killed {
            process.kill().unwrap();
        }
        assert_eq!(process.wait().unwrap().success(), !killed);
        require_gone(&server);
        require_gone(&folder);
    }
}

fn require_gone(path: &Path) {
    let begin = Instant::now();
    while path.exists() {
        assert!(begin.elapsed() < END_PATIENCE, "{} is still there", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The server's entry in `/proc`.
fn postmaster(folder: &Path) -> PathBuf {
    let file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    Path::new("/proc").join(file.lines().next().unwrap())
}

//! Being told to end at any moment, and a log that nobody takes.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::service::{Service, signal};
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    a_server_that_is_told_to_end_while_it_starts_ends_well,
    a_server_that_is_told_to_end_while_its_migration_is_blocked_ends_at_once,
    a_job_that_is_longer_than_the_grace_is_handed_back_at_its_end,
    a_server_whose_log_cannot_be_written_goes_on,
    a_server_whose_log_nobody_reads_any_more_goes_on,
    a_server_whose_log_is_left_unread_goes_on_and_counts_what_is_lost,
    workers_end_when_they_write_to_nobody,
);

/// How many moments of the start are tried, and how far they lie apart.
const MOMENTS: u32 = 20;
const STEP: Duration = Duration::from_millis(20);
/// What it takes on a busy machine to end.
const PATIENCE: Duration = Duration::from_secs(8);

/// A script that takes half a second to load.
fn slow_to_load(language: Language) -> Setup {
    let script = match language {
        Language::Python => "import time\ntime.sleep(0.5)\n\ndef output(files, ctx):\n    return [1]\n",
        Language::Lua => {
            "local ffi = require('ffi')\nffi.cdef('int usleep(unsigned microseconds);')\nffi.C.usleep(500000)\n\
             return { output = function() return { 1 } end }\n"
        }
    };
    Setup::inline(language, "slow", script)
}

/// Either it knew of the signal already, or it was ended by it before it had begun anything.
fn ended_well(status: ExitStatus, signal: i32) -> bool {
    status.code() == Some(0) || status.signal() == Some(signal)
}

fn a_server_that_is_told_to_end_while_it_starts_ends_well(language: Language) {
    let setup = slow_to_load(language);
    for moment in 0..MOMENTS {
        let (name, number) = if moment % 2 == 0 { ("TERM", 15) } else { ("INT", 2) };
        let (status, took, said) = setup.interrupted(STEP * moment, name);
        assert!(ended_well(status, number) && took < PATIENCE, "{moment}: {status} after {took:?}\n{said}");
    }
    assert_eq!(setup.start().output(&setup.body(json!({}))), [1.0], "what is left is of use to the next");
}

#[test]
fn a_server_that_waits_for_its_database_ends_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/nowhere", nobody.local_addr().unwrap());
    let setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_DATABASE_URL", &url);
    let (status, took, said) = setup.interrupted(Duration::from_secs(2), "TERM");
    assert!(status.code() == Some(0) && took < PATIENCE, "{status} after {took:?}\n{said}");
}

/// Somebody else is making the schema, and takes long.
fn a_server_that_is_told_to_end_while_its_migration_is_blocked_ends_at_once(language: Language) {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let setup = Setup::new(language, "calls").environment("DUNNAGE_DATABASE_URL", &url);
    let go = cluster.folder().join(url.rsplit('/').next().unwrap());
    let making = format!(
        "BEGIN; CREATE TABLE dunnage_schema (version integer); DO 'BEGIN WHILE (pg_stat_file(''{}'', true)).size IS NULL LOOP \
         PERFORM pg_sleep(0.02); END LOOP; END'; ROLLBACK",
        go.display()
    );
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    std::thread::scope(|scope| {
        scope.spawn(|| cluster.sql(&url, &making));
        // Or the server could be there first.
        eventually("the table is being made", PATIENCE, || (cluster.sql(&url, waiting) == "1").then_some(()));
        let is_blocked = || (cluster.sql(&url, blocked) == "1").then_some(());
        let wait = || eventually("the migration is blocked", PATIENCE, is_blocked);
        let (status, took, said) = setup.interrupted_once(wait, "TERM");
        std::fs::write(&go, "").unwrap();
        assert!(status.code() == Some(0) && took < PATIENCE, "{status} after {took:?}\n{said}");
    });
    assert_eq!(setup.start().output(&setup.body(json!({}))), [6.0], "what was begun is no hindrance to the next");
}

#[test]
fn a_server_without_a_terminal_goes_on_at_sighup() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    signal(service.pid(), "HUP");
    assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
    assert_eq!(service.terminate().0.code(), Some(0));
}

fn a_job_that_is_longer_than_the_grace_is_handed_back_at_its_end(language: Language) {
    let setup = Setup::new(language, "calls").flags(&["--grace", "2s"]);
    let first = setup.start();
    let job = first.submit("/input", &setup.body(json!({"case": "stubborn"})));
    first.wait_for(&job, "it runs", |status| status["progress"]["message"] == "waiting");
    let begin = Instant::now();
    let (status, log) = first.terminate();
    let took = begin.elapsed();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(took >= Duration::from_secs(2) && took < PATIENCE, "{took:?}");
    let second = setup.start();
    let again = second.wait_for(&job, "it runs again", |status| status["state"] == "running");
    assert_eq!(again["attempt"], 1, "nobody was charged for it");
}

/// Everything a service does still works.
fn works(service: &Service, setup: &Setup) {
    for _ in 0..20 {
        assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
    }
    service.post("/output", &setup.body(json!({"case": "segfault"}))).expect_problem(502, "worker_crashed");
    assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
    service.done("/input", &setup.body(json!({"case": "speak"})));
    assert_eq!(service.get("/healthz/live").status, 200);
}

/// On a port that was free a moment ago.
fn on_a_port(setup: Setup) -> Setup {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    setup.port(free.local_addr().unwrap().port())
}

fn a_server_whose_log_cannot_be_written_goes_on(language: Language) {
    let setup = on_a_port(Setup::new(language, "calls"));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let service = setup.start_unheard(full);
    works(&service, &setup);
    let status = service.terminate().0;
    assert_eq!(status.code(), Some(0), "{status}");
}

fn a_server_whose_log_nobody_reads_any_more_goes_on(language: Language) {
    let setup = on_a_port(Setup::new(language, "calls"));
    let (reader, writer) = std::io::pipe().unwrap();
    let service = setup.start_unheard(Stdio::from(writer));
    drop(reader);
    works(&service, &setup);
    let status = service.terminate().0;
    assert_eq!(status.code(), Some(0), "{status}");
}

/// Prints as many lines of a kilobyte as it is asked to.
fn printing(language: Language) -> &'static str {
    match language {
        Language::Python => {
            "def output(files, ctx):\n    for _ in range(ctx.params.get('lines', 0)):\n        print('x' * 999)\n    return [6]\n"
        }
        Language::Lua => {
            "return { output = function(_, ctx)\n  for _ = 1, ctx.params.lines or 0 do print(string.rep('x', 999)) end\n  return { 6 }\nend }\n"
        }
    }
}

fn a_server_whose_log_is_left_unread_goes_on_and_counts_what_is_lost(language: Language) {
    let setup = on_a_port(Setup::inline(language, "printing", printing(language))).flags(&["--workers", "2"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let service = setup.start_unheard(Stdio::from(writer));
    let lost = || service.metric("dunnage_log_lines_lost_total", "");
    // The pipe is full after a moment, and what may wait soon after that.
    eventually("lines are left out", PATIENCE, || {
        assert_eq!(service.output(&setup.body(json!({"lines": 5000}))), [6.0]);
        (lost() > 0.0).then_some(())
    });
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
    }
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert!(service.rss_bytes() < 300 << 20, "{} bytes", service.rss_bytes());
    let begin = Instant::now();
    let status = service.terminate().0;
    assert!(status.code() == Some(0) && begin.elapsed() < PATIENCE, "{status} after {:?}", begin.elapsed());
    drop(reader);
}

/// The server ignores SIGPIPE, as it hears of it otherwise; what it starts must not find that so, as pipelines of a script would never
/// end.
fn workers_end_when_they_write_to_nobody(language: Language) {
    let script = match language {
        Language::Python => {
            "import subprocess\n\ndef output(files, ctx):\n    text = subprocess.run(['/bin/grep', 'SigIgn', '/proc/self/status'], \
             capture_output=True).stdout\n    return [int(text.split()[1], 16) >> 12 & 1]\n"
        }
        Language::Lua => {
            "local function output()\n  local text = io.popen('/bin/grep SigIgn /proc/self/status'):read('*a')\n  \
             return { math.floor(tonumber(text:match('%s(%x+)'), 16) / 2 ^ 12) % 2 }\nend\nreturn { output = output }\n"
        }
    };
    let setup = Setup::inline(language, "piping", script);
    assert_eq!(setup.start().output(&setup.body(json!({}))), [0.0]);
}

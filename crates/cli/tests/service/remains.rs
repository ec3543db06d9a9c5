//! What is left of workers and of what scripts have started: nothing, however they or the server end.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dunnage_testing::census::{self, eventually};
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, is_guard, signal};
use dunnage_testing::setup::{BUILT_BESIDE, Setup, built_dunnage};
use serde_json::json;

in_both_languages!(
    what_a_script_has_started_ends_with_its_worker_wherever_it_went,
    what_a_script_has_started_ends_when_the_server_is_killed,
    what_a_script_has_started_ends_when_the_server_is_told_to,
    a_guard_that_ends_is_replaced_and_the_next_one_does_its_work,
    orphans_that_end_are_reaped,
    orphans_are_reaped_by_a_server_that_is_process_1,
    temporary_files_go_with_their_worker,
    shared_memory_goes_with_its_worker,
    shared_memory_that_a_killed_server_leaves_is_swept,
    what_a_killed_server_leaves_in_the_temporary_folder_is_swept,
);

const PATIENCE: Duration = Duration::from_secs(10);
/// What starts processes that stay.
const STARTING: [&str; 3] = ["fork", "daemon", "children"];

fn started(language: Language) -> (Setup, Service, usize) {
    let setup = Setup::new(language, "behaviours");
    let service = setup.start();
    let before = service.processes().len();
    for case in STARTING {
        service.output(&setup.body(json!({"case": case})));
    }
    let more = || (service.processes().len() >= before + STARTING.len()).then_some(());
    eventually("what was started runs", PATIENCE, more);
    (setup, service, before)
}

fn what_a_script_has_started_ends_with_its_worker_wherever_it_went(language: Language) {
    let (setup, service, before) = started(language);
    service.post("/output", &setup.body(json!({"case": "hard_exit"}))).expect_problem(502, "worker_crashed");
    service.output(&setup.body(json!({})));
    eventually("it is gone", Duration::from_secs(3), || (service.processes().len() == before).then_some(()));
    let job = service.submit("/input", &setup.body(json!({"case": "daemon"})));
    assert_eq!(service.ended(&job)["state"], "done");
}

fn what_a_script_has_started_ends_when_the_server_is_killed(language: Language) {
    let (_setup, service, _) = started(language);
    service.kill(Duration::from_secs(2));
}

fn what_a_script_has_started_ends_when_the_server_is_told_to(language: Language) {
    let (_setup, service, _) = started(language);
    let guard = service.guard();
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!Path::new(&format!("/proc/{guard}")).exists(), "the guard ends with the server");
}

fn a_guard_that_ends_is_replaced_and_the_next_one_does_its_work(language: Language) {
    let (setup, service, before) = started(language);
    for _ in 0..2 {
        let ended = service.guard();
        signal(ended, "KILL");
        let another = || census::children(service.pid()).into_iter().any(|child| child != ended && is_guard(child));
        eventually("another one stands guard", PATIENCE, || another().then_some(()));
        eventually("the one before is reaped", PATIENCE, || (zombies(service.pid()) == 0).then_some(()));
    }
    assert!(service.processes().len() >= before + STARTING.len(), "what the script has started goes on");
    assert_eq!(service.metric("dunnage_loop_restarts_total", "loop=\"guard\""), 2.0);
    assert_eq!(service.get("/healthz/live").status, 200);
    service.output(&setup.body(json!({})));
    service.kill(Duration::from_secs(2));
}

/// The children of a process that have ended and were not reaped.
fn zombies(parent: i32) -> usize {
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let is_one = |pid: &str| Some(stat(pid)?.rsplit_once(") ")?.1.starts_with(&format!("Z {parent} ")));
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|pid| is_one(pid) == Some(true)).count()
}

fn orphans_that_end_are_reaped(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let service = setup.start();
    let workers = service.workers();
    for _ in 0..3 {
        service.output(&setup.body(json!({"case": "orphans"})));
    }
    let adopted = || service.workers().len() > workers.len() || zombies(service.pid()) > 0;
    eventually("they have come to the server", PATIENCE, || adopted().then_some(()));
    let gone = || service.workers() == workers && zombies(service.pid()) == 0;
    eventually("they are gone", PATIENCE, || gone().then_some(()));
}

/// A program that does something first and then becomes `dunnage`, in a folder with the runtimes beside it.
pub(crate) fn wrapped(folder: &Path, line: &str) -> PathBuf {
    let original = built_dunnage();
    let program = folder.join("dunnage");
    std::fs::write(&program, format!("#!/bin/sh\n{}\n", line.replace("DUNNAGE", original.to_str().unwrap()))).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in BUILT_BESIDE {
        symlink(original.with_file_name(name), folder.join(name)).unwrap();
    }
    program
}

fn orphans_are_reaped_by_a_server_that_is_process_1(language: Language) {
    let unshare = "unshare --pid --fork --mount-proc";
    let possible = std::process::Command::new("/bin/sh").args(["-c", &format!("{unshare} true")]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there may be no new PID namespaces here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = wrapped(folder.path(), &format!("exec {unshare} DUNNAGE \"$@\""));
    let setup = Setup::new(language, "behaviours").binary(program);
    let service = setup.start();
    let server = census::children(service.pid())[0];
    let workers = census::children(server).len();
    for case in ["orphans", "daemon"] {
        service.output(&setup.body(json!({"case": case})));
    }
    let one_more = || (census::children(server).len() == workers + 1 && zombies(server) == 0).then_some(());
    eventually("only the daemon is left", PATIENCE, one_more);
    service.post("/output", &setup.body(json!({"case": "abort"}))).expect_problem(502, "worker_crashed");
    service.output(&setup.body(json!({})));
    let as_before = || (census::children(server).len() == workers && zombies(server) == 0).then_some(());
    eventually("nothing is left", PATIENCE, as_before);
    signal(server, "TERM");
    eventually("all is gone", PATIENCE, || service.processes().is_empty().then_some(()));
}

/// The entry of a process's environment.
fn variable(pid: i32, name: &str) -> Option<PathBuf> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entries = String::from_utf8_lossy(&environment).into_owned();
    entries.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(PathBuf::from))
}

fn temporary_files_go_with_their_worker(language: Language) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(language, "behaviours").environment("TMPDIR", folder.path().to_str().unwrap());
    let service = setup.start();
    let first = variable(service.workers()[0], "TMPDIR").unwrap();
    assert!(first.starts_with(folder.path()) && first.is_dir(), "{}", first.display());
    assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::create_dir(first.join("deep")).unwrap();
    std::fs::write(first.join("deep/left"), "over").unwrap();
    service.post("/output", &setup.body(json!({"case": "abort"}))).expect_problem(502, "worker_crashed");
    service.output(&setup.body(json!({})));
    assert!(!first.exists());
    assert_ne!(variable(service.workers()[0], "TMPDIR"), Some(first));
    service.terminate();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Names of shared memory that nobody else has. What bears them is removed in the end.
struct Names(String);

impl Names {
    fn new(language: Language) -> Self {
        Self(format!("dunnage-test-{:08x}-{}-", rand::random::<u32>(), language.extension()))
    }

    fn name(&self, number: u32) -> String {
        format!("{}{number}", self.0)
    }

    fn path(&self, number: u32) -> PathBuf {
        Path::new("/dev/shm").join(self.name(number))
    }

    fn there(&self) -> Vec<String> {
        let names = std::fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&self.0)).collect()
    }

    /// Has a worker make shared memory, and waits until that is noticed.
    fn make(&self, setup: &Setup, service: &Service, number: u32) {
        service.output(&setup.body(json!({"share": self.name(number)})));
        let name = self.name(number);
        let is_noticed = || service.log().iter().any(|line| line.contains("has made shared memory") && line.contains(&name));
        eventually("it is noticed", PATIENCE, || is_noticed().then_some(()));
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.there().iter().for_each(|name| std::fs::remove_file(Path::new("/dev/shm").join(name)).unwrap());
    }
}

fn shared_memory_goes_with_its_worker(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let (names, service) = (Names::new(language), setup.start());
    let others = std::fs::File::create_new(names.path(100)).unwrap();
    for number in 1..=10 {
        names.make(&setup, &service, number);
        match number % 2 {
            0 => signal(service.workers()[0], "KILL"),
            _ => drop(service.post("/output", &setup.body(json!({"case": "segfault"}))).expect_problem(502, "worker_crashed")),
        }
        eventually("only what others have made is there", PATIENCE, || (names.there() == [names.name(100)]).then_some(()));
        service.output(&setup.body(json!({})));
    }
    names.make(&setup, &service, 11);
    let held = std::fs::File::open(names.path(11)).unwrap();
    service.post("/output", &setup.body(json!({"case": "abort"}))).expect_problem(502, "worker_crashed");
    assert!(names.path(11).exists(), "somebody else holds it");
    drop(held);
    service.terminate();
    assert_eq!(names.there(), [names.name(100)]);
    drop(others);
}

fn shared_memory_that_a_killed_server_leaves_is_swept(language: Language) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(language, "behaviours").environment("TMPDIR", folder.path().to_str().unwrap());
    let (names, service) = (Names::new(language), setup.start());
    names.make(&setup, &service, 21);
    std::fs::write(names.path(22), "").unwrap();
    service.kill(Duration::from_secs(3));
    assert!(names.path(21).exists());
    setup.start();
    assert_eq!(names.there(), [names.name(22)]);
}

fn what_a_killed_server_leaves_in_the_temporary_folder_is_swept(language: Language) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(language, "behaviours").environment("TMPDIR", folder.path().to_str().unwrap());
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    setup.start().kill(Duration::from_secs(3));
    assert_eq!(count(), 1);
    let service = setup.start();
    assert_eq!(count(), 1, "the old one is gone, the new one there");
    service.terminate();
    assert_eq!(count(), 0);
}

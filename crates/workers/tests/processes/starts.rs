//! How a worker begins, and what it finds when it does.

use std::task::{Context, Waker};
use std::time::Duration;

use dunnage_workers::{Exit, Runtime, StartError};
use serde_json::json;

use crate::fixture::{PATIENCE, Site, eventually, is_alive, request, send_signal, soon};

#[tokio::test]
async fn a_worker_finds_four_descriptors_and_no_more() {
    let inherited = rustix::io::dup(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let site = Site::new();
    let list = Runtime { program: "/bin/ls".into(), arguments: vec!["/proc/self/fd".into()], threads: 0 };
    let Err(StartError::Lost { lost, .. }) = site.start(&list, PATIENCE).await else { panic!("`ls` is no runtime") };
    assert_eq!(lost.exit, Exit::Code(0));
    assert_eq!(site.host.lines(), ["0", "1", "2", "3", "4"], "the last one is the folder that `ls` reads");
    drop(inherited);
}

/// The kernel ends a worker with the thread that has started it.
#[tokio::test]
async fn a_worker_outlives_the_last_handle_of_its_launcher() {
    let site = Site::new();
    let mut worker = site.worker().await;
    let (_folder, host) = site.without_launcher();
    for act in [json!({"do": "sleep", "ms": 300, "x": 1}), json!({"x": 2})] {
        let answers = worker.output(vec![request(act)], soon(), &*host).await.expect("it lives");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn what_a_runtime_says_before_it_dies_is_told() {
    let site = Site::new();
    let shell =
        Runtime { program: "/bin/sh".into(), arguments: vec!["-c".into(), "echo no interpreter >&2; exit 7".into()], threads: 0 };
    let error = site.start(&shell, PATIENCE).await.unwrap_err();
    let StartError::Lost { lost, .. } = &error else { panic!("{error}") };
    assert_eq!((&lost.exit, lost.last_lines.as_slice()), (&Exit::Code(7), ["no interpreter".to_owned()].as_slice()));
    assert!(error.to_string().contains("exited with code 7"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let site = Site::new();
    let nothing = Runtime { program: "/nowhere/runtime".into(), arguments: Vec::new(), threads: 0 };
    let error = site.start(&nothing, PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "`/nowhere/runtime` cannot be started");
}

#[tokio::test]
async fn a_script_that_cannot_be_loaded_leaves_no_process() {
    let site = Site::new().with_script("broken");
    let error = site.start(&site.runtime(), PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the script cannot be loaded: broken on purpose");
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_runtime_that_says_nothing_is_killed_in_time() {
    let site = Site::new();
    let error = site.start(&site.runtime_after("sleep 60"), Duration::from_millis(200)).await.unwrap_err();
    let StartError::Lost { lost, .. } = error else { panic!("{error}") };
    assert_eq!(lost.exit, Exit::DeadlinePassed);
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let site = Site::new();
    let runtime = site.runtime_after("echo > begun; sleep 60");
    tokio::select! {
        _ = site.start(&runtime, PATIENCE) => panic!("it sleeps"),
        () = eventually("its beginning", || site.path().join("begun").exists().then_some(())) => {}
    }
    site.processes_become(0).await;
}

/// Nobody has looked at the answer of the thread that starts programs: it is there, or just about to be.
#[tokio::test]
async fn a_start_that_is_given_up_on_its_way_leaves_no_process() {
    let site = Site::new();
    for delay in [0, 1, 5, 20].map(Duration::from_millis) {
        let begun = site.path().join(format!("begun-{}", delay.as_millis()));
        let runtime = site.runtime_after(&format!("echo > {}; sleep 60", begun.display()));
        let mut start = Box::pin(site.start(&runtime, PATIENCE));
        assert!(start.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        while !begun.exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(delay);
        drop(start);
        site.processes_become(0).await;
    }
}

#[tokio::test]
async fn programs_that_were_started_ahead_become_the_first_workers() {
    let site = Site::new();
    site.launch_ahead(&site.runtime(), 2);
    let mut waiting = site.processes_become(2).await;
    let workers = [site.worker().await, site.worker().await];
    let mut pids = workers.each_ref().map(|worker| worker.pid().unwrap());
    pids.sort_unstable();
    waiting.sort_unstable();
    assert_eq!(waiting, pids);
    let third = site.worker().await;
    assert_eq!(site.processes_become(3).await.len(), 3, "there was none left for it");
    for worker in workers.into_iter().chain([third]) {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_program_that_was_started_ahead_is_for_its_own_runtime_alone() {
    let site = Site::new();
    site.launch_ahead(&Runtime { threads: 3, ..site.runtime() }, 1);
    let waiting = site.processes_become(1).await;
    let worker = site.worker().await;
    assert_ne!(worker.pid(), Some(waiting[0]));
    worker.stop().await;
    let _ = site.without_launcher();
    eventually("nobody can want it any more, and it ends", || (!is_alive(waiting[0])).then_some(())).await;
}

#[tokio::test]
async fn a_program_that_has_ended_before_it_was_wanted_is_not_missed() {
    let site = Site::new();
    site.launch_ahead(&site.runtime(), 2);
    for pid in site.processes_become(2).await {
        send_signal(pid, rustix::process::Signal::KILL);
        eventually("it has ended", || (!is_alive(pid)).then_some(())).await;
    }
    let worker = site.worker().await;
    assert_eq!(worker.pid(), Some(site.processes_become(1).await[0]));
    worker.stop().await;
}

#[tokio::test]
async fn a_program_that_could_not_be_started_ahead_is_told_to_whoever_wants_it() {
    let site = Site::new();
    let nothing = Runtime { program: "/nowhere/runtime".into(), arguments: Vec::new(), threads: 0 };
    site.launch_ahead(&nothing, 1);
    let error = site.start(&nothing, PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "`/nowhere/runtime` cannot be started");
}

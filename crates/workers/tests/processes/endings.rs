//! How workers end, by themselves and by us.

use std::time::Duration;

use dunnage_protocol::Outcome;
use dunnage_workers::{Exit, Interrupt, Lost, Worker};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fixture::{PATIENCE, Site, echo, eventually, is_alive, request, run, send_signal, soon};

/// Has the worker do something in a request that it will not survive.
async fn lost_by(site: &Site, act: Value, deadline: Instant) -> Lost {
    let mut worker = site.worker().await;
    worker.output(vec![request(act)], deadline, &*site.host).await.expect_err("the worker is lost")
}

#[tokio::test]
async fn a_crash_is_told_with_its_signal_and_the_last_lines() {
    let site = Site::new();
    let lost = lost_by(&site, json!({"do": "abort"}), soon()).await;
    assert_eq!(lost, Lost { exit: Exit::Signal(6), last_lines: vec!["last words".to_owned()] });
    assert_eq!(lost.to_string(), "the worker was ended by signal 6 (abort)");
    assert_eq!(site.host.lines(), ["last words"], "the host has heard them too");
}

#[tokio::test]
async fn a_worker_that_is_killed_from_outside_is_told_apart() {
    let site = Site::new();
    let mut worker = site.worker().await;
    let pid = worker.pid().unwrap();
    let hanging = worker.output(vec![request(json!({"do": "hang"}))], soon(), &*site.host);
    let killing = async { send_signal(pid, Signal::KILL) };
    let (lost, ()) = tokio::join!(hanging, killing);
    assert_eq!(lost.unwrap_err().exit, Exit::Signal(9));
}

#[tokio::test]
async fn leaving_in_the_middle_of_a_call_is_a_loss_whatever_the_code() {
    let site = Site::new();
    assert_eq!(lost_by(&site, json!({"do": "exit"}), soon()).await.exit, Exit::Code(0));
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let site = Site::new();
    let begin = Instant::now();
    let lost = lost_by(&site, json!({"do": "hang"}), begin + Duration::from_millis(300)).await;
    assert_eq!(lost.exit, Exit::DeadlinePassed);
    assert!((300..1500).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_worker_that_never_stops_talking_does_not_put_off_its_deadline() {
    let site = Site::new();
    let begin = Instant::now();
    let lost = lost_by(&site, json!({"do": "talk"}), begin + Duration::from_millis(300)).await;
    assert_eq!(lost.exit, Exit::DeadlinePassed);
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_answer_that_comes_too_late_does_not_count() {
    let site = Site::new();
    let deadline = Instant::now() + Duration::from_millis(200);
    assert_eq!(lost_by(&site, json!({"do": "sleep", "ms": 2000}), deadline).await.exit, Exit::DeadlinePassed);
}

#[tokio::test]
async fn a_worker_that_talks_nonsense_is_killed() {
    let site = Site::new();
    let lost = lost_by(&site, json!({"do": "garbage"}), soon()).await;
    assert!(matches!(&lost.exit, Exit::Protocol(detail) if !detail.is_empty()), "{lost:?}");
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_worker_that_hangs_up_and_stays_is_killed() {
    let site = Site::new();
    let lost = lost_by(&site, json!({"do": "close"}), soon()).await;
    assert_eq!(lost.exit, Exit::Protocol("it closed its connection but did not end".to_owned()));
    site.processes_become(0).await;
}

#[tokio::test]
async fn what_a_job_printed_is_heard_before_its_end() {
    let site = Site::new();
    let mut worker = site.worker().await;
    let (_interrupt, mut wishes) = watch::channel(Interrupt::None);
    let outcome = worker.run(run(json!({"do": "flood"})), soon(), &*site.host, &mut wishes, PATIENCE).await;
    assert_eq!(outcome, Ok(Outcome::Ok(json!(0))));
    let expected: Vec<_> = (0..20_000).map(|number| format!("line {number}")).collect();
    assert_eq!(site.host.lines(), expected);
}

#[tokio::test]
async fn what_a_worker_has_started_ends_with_it() {
    let site = Site::new();
    let mut worker = site.worker().await;
    let spawning = worker.output(vec![request(json!({"do": "spawn"}))], soon(), &*site.host);
    let grandchild = eventually("the number of the grandchild", || site.host.lines().first()?.parse().ok());
    let grandchild = tokio::select! {
        _ = spawning => panic!("it hangs"),
        grandchild = grandchild => grandchild,
    };
    assert!(is_alive(grandchild));
    drop(worker);
    eventually("the end of the grandchild", || (!is_alive(grandchild)).then_some(())).await;
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_worker_that_is_let_go_ends_by_itself() {
    let site = Site::new();
    let mut worker = site.worker().await;
    worker.output(vec![echo(1)], soon(), &*site.host).await.unwrap();
    let begin = Instant::now();
    worker.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(1), "it was told, not killed: {:?}", begin.elapsed());
    assert_eq!(site.processes(), [0; 0]);
}

#[tokio::test]
async fn an_idle_worker_that_dies_is_noticed() {
    let site = Site::new();
    let mut worker = site.worker().await;
    send_signal(worker.pid().unwrap(), Signal::KILL);
    let exit = tokio::time::timeout(PATIENCE, worker.idle()).await.expect("its end is noticed");
    assert_eq!(worker.bury(exit).await.exit, Exit::Signal(9));
}

/// Cancels a job as soon as it runs, and says how it ended and after how long.
async fn cancelled(site: &Site, mut worker: Worker, act: Value, wish: Interrupt) -> (Result<Outcome, Lost>, Duration) {
    let (interrupt, mut wishes) = watch::channel(Interrupt::None);
    let grace = Duration::from_millis(100);
    let running = worker.run(run(act), soon(), &*site.host, &mut wishes, grace);
    let cancelling = async {
        eventually("the job's progress", || (site.host.progress_count() > 0).then_some(())).await;
        interrupt.send_replace(wish);
        Instant::now()
    };
    let (outcome, begin) = tokio::join!(running, cancelling);
    (outcome, begin.elapsed())
}

#[tokio::test]
async fn a_cancelled_job_that_stops_by_itself_keeps_its_worker() {
    let site = Site::new().with_script("patient");
    let worker = site.worker().await;
    let (outcome, _) = cancelled(&site, worker, json!({}), Interrupt::Cancel).await;
    assert_eq!(outcome, Ok(Outcome::Ok(json!("cancelled"))));
}

#[tokio::test]
async fn a_cancelled_job_that_goes_on_is_terminated_after_its_grace() {
    let site = Site::new();
    let worker = site.worker().await;
    let (outcome, took) = cancelled(&site, worker, json!({"do": "hang"}), Interrupt::Cancel).await;
    assert_eq!(outcome.unwrap_err().exit, Exit::Signal(15));
    assert!((100..1500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_worker_deaf_to_sigterm_is_killed_two_seconds_later() {
    let site = Site::new();
    let worker = site.start(&site.runtime_after("trap '' TERM"), PATIENCE).await.unwrap();
    let (outcome, took) = cancelled(&site, worker, json!({"do": "hang"}), Interrupt::Cancel).await;
    assert_eq!(outcome.unwrap_err().exit, Exit::Interrupted);
    assert!((2100..4000).contains(&took.as_millis()), "{took:?}");
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_job_that_must_not_go_on_is_killed_at_once() {
    let site = Site::new();
    let worker = site.start(&site.runtime_after("trap '' TERM"), PATIENCE).await.unwrap();
    let (outcome, took) = cancelled(&site, worker, json!({"do": "hang"}), Interrupt::Kill).await;
    assert_eq!(outcome.unwrap_err().exit, Exit::Interrupted);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_wish_from_before_the_job_began_counts() {
    let site = Site::new();
    let mut worker = site.worker().await;
    let (_interrupt, mut wishes) = watch::channel(Interrupt::Kill);
    let lost = worker.run(run(json!({"do": "hang"})), soon(), &*site.host, &mut wishes, PATIENCE).await.unwrap_err();
    assert_eq!(lost.exit, Exit::Interrupted);
}

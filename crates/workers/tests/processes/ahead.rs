//! Calls that are sent ahead to a worker which answers fast: what becomes of them when one before them goes wrong.

use std::sync::Arc;
use std::time::Duration;

use dunnage_protocol::Request;
use dunnage_workers::{Exit, OutputError, Pool, PoolSettings};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::fixture::{PATIENCE, Site, echo, eventually, request, soon};

/// The numbers of requests that are asked for at once.
const BURST: u32 = 24;

type Answer = Result<f64, OutputError>;

async fn answer(pool: &Pool, request: Request) -> Answer {
    let served = pool.output(request, Box::new(()), soon()).await?;
    Ok(f64::from_le_bytes(served.vector.bytes()[..8].try_into().unwrap()))
}

fn ask(pool: &Pool, act: Value) -> JoinHandle<Answer> {
    let pool = pool.clone();
    tokio::spawn(async move { answer(&pool, request(act)).await })
}

/// Has the pool answer many short calls together, until it knows that they are short.
async fn hurry(pool: &Pool) {
    for _ in 0..3 {
        let mut asking = JoinSet::new();
        for number in 0..100 {
            let pool = pool.clone();
            asking.spawn(async move { assert_eq!(answer(&pool, echo(number)).await.unwrap(), f64::from(number)) });
        }
        asking.join_all().await;
    }
}

/// Asks for `first` and, in the same breath, for [`BURST`] others, again and again until some of those wait behind it at the worker and
/// not in the queue, while it goes on. Nobody else may run on this thread meanwhile.
async fn burst(pool: &Pool, first: &Value, other: impl Fn(u32) -> Value) -> (JoinHandle<Answer>, Vec<JoinHandle<Answer>>) {
    let begin = Instant::now();
    loop {
        hurry(pool).await;
        let running = ask(pool, first.clone());
        let others: Vec<_> = (0..BURST).map(|number| ask(pool, other(number))).collect();
        // All of them are in the queue before anybody takes the first.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        if pool.status().queued < BURST as usize {
            return (running, others);
        }
        assert!(begin.elapsed() < PATIENCE, "nothing is sent ahead");
        drop(running.await);
        for other in others {
            other.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_crash_costs_no_call_that_was_sent_ahead() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    for act in ["abort", "exit"] {
        let (crashing, others) = burst(&pool, &json!({"do": act}), |number| json!({"x": number})).await;
        assert!(matches!(crashing.await.unwrap(), Err(OutputError::Lost(_))));
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), f64::from(number), "an answer to another's request");
        }
    }
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_five_hundred_is_answered_or_is_the_one_that_crashed() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { max_queue: 1000, ..site.settings() });
    hurry(&pool).await;
    for deadly in [3, 77, 250, 499] {
        let mut asking = JoinSet::new();
        for number in 0..500 {
            let pool = pool.clone();
            let act = if number == deadly { json!({"do": "abort"}) } else { json!({"x": number}) };
            asking.spawn(async move { (number, answer(&pool, request(act)).await) });
        }
        for (number, answered) in asking.join_all().await {
            match answered {
                Ok(answered) => assert_eq!(answered, f64::from(number), "an answer to another's request"),
                Err(OutputError::Lost(lost)) => assert_eq!((number, lost.exit), (deadly, Exit::Signal(6))),
                Err(error) => panic!("{number}: {error}"),
            }
        }
    }
    assert_eq!(pool.status().losses, 4);
    pool.stop().await;
}

#[tokio::test]
async fn each_call_runs_once_and_in_its_turn_also_after_a_crash() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    let deadly = BURST / 2;
    let print = |number| if number == deadly { json!({"do": "abort"}) } else { json!({"do": "print", "x": number}) };
    let begin = Instant::now();
    loop {
        hurry(&pool).await;
        let before = site.host.lines().len();
        let others: Vec<_> = (0..BURST).map(|number| ask(&pool, print(number))).collect();
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.await.unwrap().is_err(), number == deadly);
        }
        // What is printed is read a little later than the answers.
        let printed = || -> Vec<u32> { site.host.lines()[before..].iter().filter_map(|line| line.parse().ok()).collect() };
        let run = eventually("all have printed", || Some(printed()).filter(|run| run.len() + 1 >= BURST as usize)).await;
        assert_eq!(run, (0..BURST).filter(|number| *number != deadly).collect::<Vec<_>>());
        if begin.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    pool.stop().await;
}

#[tokio::test]
async fn a_call_that_stalls_is_ended_in_time_and_those_behind_it_are_answered() {
    let site = Site::new();
    let timeout = Duration::from_millis(700);
    let pool = site.pool(PoolSettings { timeout, ..site.settings() });
    let (stalling, others) = burst(&pool, &json!({"do": "hang"}), |number| json!({"x": number})).await;
    let begin = Instant::now();
    assert!(matches!(stalling.await.unwrap(), Err(OutputError::DeadlinePassed)));
    assert!(begin.elapsed() < 2 * timeout, "{:?}", begin.elapsed());
    for (number, other) in (0..).zip(others) {
        assert_eq!(other.await.unwrap().unwrap(), f64::from(number));
    }
    pool.stop().await;
}

#[tokio::test]
async fn the_time_of_a_call_counts_from_its_turn() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { timeout: Duration::from_millis(900), ..site.settings() });
    // Three of these take longer than one may.
    let slow = json!({"do": "sleep", "ms": 400, "x": 1});
    let (first, others) = burst(&pool, &slow, |number| if number < 2 { slow.clone() } else { json!({"x": 1}) }).await;
    assert_eq!(first.await.unwrap().unwrap(), 1.0);
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), 1.0);
    }
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
}

#[tokio::test]
async fn clients_that_leave_take_nobody_elses_answer_along() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    let (sleeping, others) = burst(&pool, &json!({"do": "sleep", "ms": 200, "x": 7}), |number| json!({"x": number})).await;
    let mut staying = Vec::new();
    for (number, other) in (0_u32..).zip(others) {
        if number % 3 == 0 { other.abort() } else { staying.push((number, other)) }
    }
    assert_eq!(sleeping.await.unwrap().unwrap(), 7.0);
    for (number, other) in staying {
        assert_eq!(other.await.unwrap().unwrap(), f64::from(number));
    }
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
}

#[tokio::test]
async fn what_a_call_holds_is_let_go_also_when_its_client_has_left() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    hurry(&pool).await;
    let held = Arc::new(());
    let asking: Vec<_> = (0..BURST)
        .map(|number| {
            let (pool, hold) = (pool.clone(), Box::new(Arc::clone(&held)));
            let act = if number == 5 { json!({"do": "abort"}) } else { json!({"x": number}) };
            tokio::spawn(async move { pool.output(request(act), hold, soon()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    asking.iter().step_by(2).for_each(JoinHandle::abort);
    for asked in asking {
        drop(asked.await);
    }
    eventually("nothing is held any more", || (Arc::strong_count(&held) == 1).then_some(())).await;
    pool.stop().await;
}

#[tokio::test]
async fn a_poisoned_device_costs_no_call_that_was_sent_ahead() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    let (poisoning, others) = burst(&pool, &json!({"do": "poison"}), |number| json!({"x": number})).await;
    let Err(OutputError::Lost(lost)) = poisoning.await.unwrap() else { panic!("its device is lost") };
    assert!(matches!(lost.exit, Exit::Device(_)), "{lost:?}");
    for (number, other) in (0..).zip(others) {
        assert_eq!(other.await.unwrap().unwrap(), f64::from(number));
    }
    pool.stop().await;
}

#[tokio::test]
async fn a_version_that_takes_over_answers_what_a_crash_of_the_old_one_leaves() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    hurry(&pool).await;
    let standby = pool.prepare(Some(site.artifact(1, false))).await.unwrap();
    let (hanging, others) = burst(&pool, &json!({"do": "sleep", "ms": 3_000}), |number| json!({"x": number})).await;
    assert!(pool.take_over(standby, async { Ok::<_, String>(()) }).await.is_ok());
    assert_eq!(answer(&pool, echo(1)).await.unwrap(), 1.0, "the new version does not wait for the old");
    let old = *site.processes().iter().min().unwrap();
    crate::fixture::send_signal(old, rustix::process::Signal::KILL);
    assert!(matches!(hanging.await.unwrap(), Err(OutputError::Lost(_))));
    for (number, other) in (0..).zip(others) {
        assert_eq!(other.await.unwrap().unwrap(), f64::from(number));
    }
    pool.stop().await;
}

#[tokio::test]
async fn a_pool_that_stops_tells_those_whose_worker_is_lost_meanwhile() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    let (_sleeping, others) = burst(&pool, &json!({"do": "sleep", "ms": 3_000}), |number| json!({"x": number})).await;
    let stopping = tokio::spawn({
        let pool = pool.clone();
        async move { pool.stop().await }
    });
    tokio::task::yield_now().await;
    crate::fixture::send_signal(site.processes()[0], rustix::process::Signal::KILL);
    stopping.await.unwrap();
    for other in others {
        let answered = other.await.unwrap();
        assert!(matches!(answered, Err(OutputError::ShuttingDown)), "{answered:?}");
    }
}

#[tokio::test]
async fn those_behind_a_call_that_drags_on_are_answered_by_another_worker_meanwhile() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
    eventually("two workers", || (pool.status().ready == 2).then_some(())).await;
    for _ in 0..10 {
        hurry(&pool).await;
        let begin = Instant::now();
        let hanging = ask(&pool, json!({"do": "sleep", "ms": 1500, "x": 9}));
        let others: Vec<_> = (0..2 * BURST).map(|number| ask(&pool, json!({"x": number}))).collect();
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), f64::from(number));
        }
        assert!(begin.elapsed() < Duration::from_millis(1000), "they waited for the one that sleeps");
        assert_eq!(hanging.await.unwrap().unwrap(), 9.0);
    }
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
}

#[tokio::test]
async fn an_idle_worker_is_not_passed_over() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
    eventually("two workers", || (pool.status().ready == 2).then_some(())).await;
    for _ in 0..20 {
        hurry(&pool).await;
        let begin = Instant::now();
        // The first takes one of them, and what comes after that is for the other.
        let sleeping = ask(&pool, json!({"do": "sleep", "ms": 150, "x": 9}));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let others: Vec<_> = (0..BURST).map(|number| ask(&pool, json!({"x": number}))).collect();
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), f64::from(number));
        }
        assert!(begin.elapsed() < Duration::from_millis(150), "they waited for the one that sleeps");
        assert_eq!(sleeping.await.unwrap().unwrap(), 9.0);
    }
    pool.stop().await;
}

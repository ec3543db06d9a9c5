//! The serving workers together: what a death costs, what waits, and what is left at the end.

use std::time::Duration;

use dunnage_protocol::Request;
use dunnage_workers::{Exit, OutputError, Pool, PoolSettings, Reason, Refusal, RefusalCause};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fixture::{Site, echo, eventually, is_alive, request, soon};

/// The number that a request comes back with.
async fn answer(pool: &Pool, request: Request) -> Result<f64, OutputError> {
    pool.output(request, Box::new(()), soon()).await.map(|served| first_number(served.vector.bytes()))
}

fn first_number(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes[..8].try_into().unwrap())
}

#[tokio::test]
async fn requests_may_come_before_the_workers_are_loaded() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    assert_eq!(answer(&pool, echo(7)).await.unwrap(), 7.0);
    pool.stop().await;
}

#[tokio::test]
async fn a_pool_that_is_told_what_to_serve_later_answers_what_has_waited() {
    let site = Site::new();
    let pool = site.new_pool(site.settings());
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { answer(&pool, echo(7)).await.unwrap() }
    });
    eventually("it waits", || (pool.status().queued == 1).then_some(())).await;
    assert!(!pool.has_begun() && site.processes().is_empty());
    pool.serve(site.artifact(3, false)).await;
    assert_eq!(waiting.await.unwrap(), 7.0);
    assert_eq!((pool.has_begun(), pool.status().version.map(|version| version.get())), (true, Some(3)));
    pool.refuse("it is too late for that");
    assert_eq!(answer(&pool, echo(8)).await.unwrap(), 8.0);
    pool.stop().await;
}

#[tokio::test]
async fn a_pool_without_workers_refuses_with_the_reason_until_it_serves() {
    let site = Site::new();
    let pool = site.new_pool(site.settings());
    pool.refuse("the artifact is damaged");
    let Err(OutputError::NoWorker(told)) = answer(&pool, echo(1)).await else { panic!("there is no worker") };
    assert_eq!((told.reason, told.detail.as_str()), (Reason::LoadFailed, "the artifact is damaged"));
    assert_eq!(pool.status().last_error, Some(told));
    let standby = pool.prepare(Some(site.artifact(4, false))).await.unwrap();
    assert!(pool.take_over(standby, async { Ok::<_, String>(()) }).await.is_ok());
    assert_eq!(answer(&pool, echo(2)).await.unwrap(), 2.0);
    pool.stop().await;
}

#[tokio::test]
async fn a_dead_worker_is_replaced_and_the_next_request_answered() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    answer(&pool, echo(1)).await.unwrap();
    let before = site.processes();
    let Err(OutputError::Lost(lost)) = answer(&pool, request(json!({"do": "abort"}))).await else { panic!("it aborts") };
    assert_eq!((lost.exit, lost.last_lines), (Exit::Signal(6), vec!["last words".to_owned()]));
    assert_eq!(answer(&pool, echo(2)).await.unwrap(), 2.0);
    assert_ne!(site.processes(), before);
    assert_eq!((pool.status().losses, pool.status().ready), (1, 1));
    pool.stop().await;
}

#[tokio::test]
async fn a_death_costs_no_other_request() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 3, ..site.settings() });
    let mut asking = JoinSet::new();
    for number in 0..60 {
        let pool = pool.clone();
        asking.spawn(async move {
            let deadly = number % 20 == 10;
            let request = if deadly { request(json!({"do": "abort"})) } else { echo(number) };
            (number, deadly, answer(&pool, request).await)
        });
    }
    while let Some(asked) = asking.join_next().await {
        match asked.unwrap() {
            (_, true, Err(OutputError::Lost(lost))) => assert_eq!(lost.exit, Exit::Signal(6)),
            (number, false, answered) => assert_eq!(answered.unwrap(), f64::from(number), "an answer to another's request"),
            (_, true, other) => panic!("{other:?}"),
        }
    }
    eventually("three workers", || (pool.status().ready == 3).then_some(())).await;
    assert_eq!(pool.status().losses, 3);
    pool.stop().await;
}

#[tokio::test]
async fn the_request_at_its_deadline_costs_the_worker_and_not_the_next() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    answer(&pool, echo(1)).await.unwrap();
    let begin = Instant::now();
    let outcome = pool.output(request(json!({"do": "hang"})), Box::new(()), begin + Duration::from_millis(200)).await;
    assert!(matches!(outcome, Err(OutputError::DeadlinePassed)), "{outcome:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(answer(&pool, echo(2)).await.unwrap(), 2.0);
    pool.stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { max_queue: 1, ..site.settings() });
    answer(&pool, echo(1)).await.unwrap();
    let ask = |milliseconds: u32| {
        let (pool, request) = (pool.clone(), request(json!({"do": "sleep", "ms": milliseconds, "x": milliseconds})));
        tokio::spawn(async move { answer(&pool, request).await })
    };
    let busy = ask(400);
    site.host.hears_sleep().await;
    let waiting = ask(0);
    eventually("one waits", || (pool.status().queued == 1).then_some(())).await;
    assert!(matches!(answer(&pool, echo(2)).await, Err(OutputError::Refused(Refusal { cause: RefusalCause::QueueFull, .. }))));
    assert_eq!((busy.await.unwrap().unwrap(), waiting.await.unwrap().unwrap()), (400.0, 0.0));
    pool.stop().await;
}

#[tokio::test]
async fn a_request_whose_client_has_gone_is_not_run() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    answer(&pool, echo(1)).await.unwrap();
    let busy = tokio::spawn({
        let (pool, request) = (pool.clone(), request(json!({"do": "sleep", "ms": 300})));
        async move { answer(&pool, request).await }
    });
    site.host.hears_sleep().await;
    let gone = tokio::spawn({
        let pool = pool.clone();
        async move { answer(&pool, request(json!({"do": "abort"}))).await }
    });
    eventually("one waits", || (pool.status().queued == 1).then_some(())).await;
    gone.abort();
    busy.await.unwrap().unwrap();
    assert_eq!(answer(&pool, echo(2)).await.unwrap(), 2.0);
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
}

#[tokio::test]
async fn without_a_worker_requests_are_told_why() {
    let site = Site::new().with_script("broken");
    let pool = site.pool(site.settings());
    eventually("the first failure", || pool.status().last_error).await;
    let Err(OutputError::NoWorker(told)) = answer(&pool, echo(1)).await else { panic!("nothing can answer") };
    assert!(told.detail.contains("broken on purpose"), "{told:?}");
    std::fs::write(site.script(), "acts").unwrap();
    eventually("a worker, now that the script is mended", || (pool.status().ready == 1).then_some(())).await;
    assert_eq!(answer(&pool, echo(2)).await.unwrap(), 2.0);
    pool.stop().await;
}

#[tokio::test]
async fn a_pool_that_is_stopped_answers_what_it_has_and_leaves_no_process() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
    answer(&pool, echo(1)).await.unwrap();
    let busy = tokio::spawn({
        let pool = pool.clone();
        async move { answer(&pool, request(json!({"do": "sleep", "ms": 200, "x": 9}))).await }
    });
    site.host.hears_sleep().await;
    pool.stop().await;
    assert_eq!(busy.await.unwrap().unwrap(), 9.0);
    assert_eq!(site.processes(), [0; 0]);
}

#[test]
fn dropping_everything_leaves_no_process() {
    let site = Site::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let grandchild: i32 = runtime.block_on(async {
        let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
        tokio::spawn(async move { answer(&pool, request(json!({"do": "spawn"}))).await });
        site.processes_become(2).await;
        eventually("the grandchild's number", || site.host.lines().first()?.parse().ok()).await
    });
    drop(runtime);
    let after = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    after.block_on(async {
        site.processes_become(0).await;
        eventually("the grandchild's end", || (!is_alive(grandchild)).then_some(())).await;
    });
}

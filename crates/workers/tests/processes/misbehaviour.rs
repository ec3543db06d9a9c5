//! Workers that answer what was not asked, that have lost their device, or that leave daemons.

use dunnage_workers::{Exit, OutputError, Pool, PoolSettings};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{PANIC, Site, eventually, request, soon};

async fn ask(pool: &Pool, act: Value) -> Result<f64, OutputError> {
    let served = pool.output(request(act), Box::new(()), soon()).await?;
    Ok(f64::from_le_bytes(served.vector.bytes()[..8].try_into().unwrap()))
}

/// What a worker sends that answers more than it was asked must reach nobody.
#[tokio::test]
async fn answers_too_many_reach_no_other_request() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
    for wrong in ["before", "ahead", "twice"] {
        let mut asking = JoinSet::new();
        for number in 1..=40_u32 {
            let pool = pool.clone();
            let act = if number % 10 == 0 { json!({"x": number, "answer": wrong}) } else { json!({"x": number}) };
            asking.spawn(async move { (number, ask(&pool, act).await) });
        }
        while let Some(asked) = asking.join_next().await {
            match asked.unwrap() {
                // The first of two answers to one call cannot be told from the only one.
                (number, Ok(answered)) if wrong == "twice" && number % 10 == 0 => assert_eq!(answered, 666.0),
                (number, Ok(answered)) => assert_eq!(answered, f64::from(number), "an answer to another's request"),
                (_, Err(OutputError::Lost(lost))) => assert!(matches!(lost.exit, Exit::Protocol(_)), "{wrong}: {lost:?}"),
                (_, Err(error)) => panic!("{wrong}: {error}"),
            }
        }
    }
    eventually("each of them has cost its worker", || (pool.status().losses >= 12).then_some(())).await;
    pool.stop().await;
}

#[tokio::test]
async fn a_worker_that_has_lost_its_device_answers_nothing_more() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    assert_eq!(ask(&pool, json!({"x": 1})).await.unwrap(), 1.0);
    let before = site.processes();
    let Err(OutputError::Lost(lost)) = ask(&pool, json!({"do": "poison"})).await else { panic!("its device is lost") };
    assert_eq!(lost.exit, Exit::Device("CUDA error: device-side assert triggered".to_owned()));
    assert_eq!(ask(&pool, json!({"x": 2})).await.unwrap(), 2.0);
    assert_ne!(site.processes(), before, "another worker has answered");
    pool.stop().await;
}

#[tokio::test]
async fn a_daemon_that_has_left_its_group_ends_with_its_worker() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    ask(&pool, json!({"do": "daemon"})).await.unwrap();
    let daemon =
        eventually("the daemon runs", || site.marked().into_iter().find(|pid| site.command(*pid).starts_with("sleep"))).await;
    assert!(matches!(ask(&pool, json!({"do": "abort"})).await, Err(OutputError::Lost(_))));
    assert!(!crate::fixture::is_alive(daemon), "whoever hears of the worker's end finds nothing left of it");
    pool.stop().await;
}

#[tokio::test]
async fn a_panic_of_ours_costs_a_request_and_no_worker_for_good() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    assert_eq!(ask(&pool, json!({"x": 1})).await.unwrap(), 1.0);
    assert!(ask(&pool, json!({"do": "say", "text": PANIC})).await.is_err());
    assert_eq!(ask(&pool, json!({"x": 2})).await.unwrap(), 2.0);
    assert_eq!((pool.status().ready, site.processes().len()), (1, 1));
    pool.stop().await;
}

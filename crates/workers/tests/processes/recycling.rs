//! Workers that are replaced though they have not died.

use dunnage_workers::{OutputError, Pool, PoolSettings, Recycling};
use serde_json::{Value, json};

use crate::fixture::{PATIENCE, Site, echo, eventually, request, soon};

/// Asks and returns the first number of the answer.
async fn ask(pool: &Pool, act: Value) -> Result<f64, OutputError> {
    let served = pool.output(request(act), Box::new(()), soon()).await?;
    Ok(f64::from_le_bytes(served.vector.bytes()[..8].try_into().unwrap()))
}

async fn ready(pool: &Pool, workers: usize) {
    eventually("the workers are ready", || (pool.status().ready == workers).then_some(())).await;
}

#[tokio::test]
async fn workers_are_replaced_one_at_a_time_and_are_never_fewer() {
    let site = Site::new();
    let recycling = Recycling { requests: Some(5), ..Recycling::default() };
    let pool = site.pool(PoolSettings { workers: 3, recycling, ..site.settings() });
    ready(&pool, 3).await;
    let before = site.processes();
    let (mut number, mut most) = (0, 0);
    let begin = tokio::time::Instant::now();
    while site.processes().iter().any(|pid| before.contains(pid)) {
        assert!(begin.elapsed() < PATIENCE, "some workers are never replaced: {before:?}, {:?}", site.processes());
        number += 1;
        assert_eq!(ask(&pool, json!({"x": number})).await.unwrap(), f64::from(number));
        assert_eq!(pool.status().ready, 3);
        most = most.max(site.processes().len());
    }
    assert_eq!(most, 4, "a replacement is loaded beside the others, and never two at once");
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_worker_whose_memory_grows_is_replaced() {
    let site = Site::new();
    let recycling = Recycling { rss_bytes: Some(64 << 20), ..Recycling::default() };
    let pool = site.pool(PoolSettings { recycling, ..site.settings() });
    ready(&pool, 1).await;
    let before = site.processes();
    let begin = tokio::time::Instant::now();
    while site.processes() == before {
        assert!(begin.elapsed() < PATIENCE, "it is never replaced");
        ask(&pool, json!({"do": "hoard"})).await.unwrap();
    }
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
}

#[tokio::test]
async fn a_worker_whose_calls_fail_one_after_the_other_is_replaced() {
    let site = Site::new();
    let recycling = Recycling { failures: Some(3), ..Recycling::default() };
    let pool = site.pool(PoolSettings { recycling, ..site.settings() });
    ready(&pool, 1).await;
    let before = site.processes();
    for act in ["raise", "raise", "nothing", "raise", "raise"] {
        let answered = ask(&pool, json!({"do": act})).await;
        assert_eq!(answered.is_err(), act == "raise", "{answered:?}");
    }
    assert_eq!(site.processes(), before, "there were never three in a row");
    assert!(matches!(ask(&pool, json!({"do": "raise"})).await, Err(OutputError::Script(_))));
    eventually("it is replaced", || (site.processes().iter().all(|pid| !before.contains(pid))).then_some(())).await;
    assert_eq!(ask(&pool, json!({"x": 4})).await.unwrap(), 4.0);
    pool.stop().await;
}

#[tokio::test]
async fn a_worker_goes_on_when_there_is_no_replacement_to_be_had() {
    let site = Site::new();
    let recycling = Recycling { requests: Some(1), ..Recycling::default() };
    let pool = site.pool(PoolSettings { recycling, ..site.settings() });
    ready(&pool, 1).await;
    let before = site.processes();
    std::fs::write(site.script(), "broken").unwrap();
    assert_eq!(ask(&pool, json!({"x": 1})).await.unwrap(), 1.0);
    let failed = || pool.status().losses_by_reason.iter().any(|(reason, count)| reason.as_str() == "load_failed" && *count == 1);
    eventually("the replacement fails", || failed().then_some(())).await;
    for number in 2..6 {
        assert_eq!(ask(&pool, json!({"x": number})).await.unwrap(), f64::from(number));
    }
    assert_eq!((site.processes(), pool.status().ready), (before, 1));
    pool.stop().await;
}

#[tokio::test]
async fn the_replacement_takes_over_at_once_when_the_worker_dies_meanwhile() {
    let site = Site::new();
    let recycling = Recycling { requests: Some(1), ..Recycling::default() };
    let pool = site.pool(PoolSettings { recycling, ..site.settings() });
    ready(&pool, 1).await;
    ask(&pool, json!({"x": 1})).await.unwrap();
    assert!(matches!(ask(&pool, json!({"do": "abort"})).await, Err(OutputError::Lost(_)) | Ok(_)));
    assert_eq!(ask(&pool, json!({"x": 2})).await.unwrap(), 2.0);
    pool.stop().await;
    // Another replacement may just have been given up.
    site.processes_become(0).await;
}

#[tokio::test]
async fn a_vector_over_the_limit_is_refused_and_the_next_one_answered() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    let Err(OutputError::Script(error)) = ask(&pool, json!({"do": "large"})).await else { panic!("it is too large") };
    assert_eq!(error.code, "bad_output");
    assert_eq!(error.message, "the output vector has 2097152 bytes; at most 1048576 are allowed (`--max-output`)");
    assert_eq!(pool.output(echo(3), Box::new(()), soon()).await.unwrap().batch_size, 1);
    assert_eq!(pool.status().losses, 0);
    pool.stop().await;
}

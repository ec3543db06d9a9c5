//! One version after the other, with requests coming in all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dunnage_workers::{OutputError, Pool, PoolSettings, Served};
use serde_json::json;
use tokio::task::JoinSet;

use crate::fixture::{Site, echo, eventually, request, soon};

async fn version(pool: &Pool) -> Result<u32, OutputError> {
    pool.output(echo(1), Box::new(()), soon()).await.map(|served| version_of(&served))
}

/// The version that an answer names, after making sure that it is also the one that has answered.
fn version_of(served: &Served) -> u32 {
    let named = served.version.map_or(0, dunnage_types::Version::get);
    let answered = f64::from_le_bytes(served.vector.bytes()[8..16].try_into().unwrap());
    assert_eq!(answered, f64::from(named));
    named
}

async fn never() -> Result<(), &'static str> {
    Err("the database said no")
}

async fn at_once() -> Result<(), &'static str> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_over_under_load_and_no_request_fails() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
    assert_eq!(version(&pool).await.unwrap(), 0);
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..6_u32 {
        let (pool, over) = (pool.clone(), Arc::clone(&over));
        clients.spawn(async move {
            let mut versions = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let number = client * 1_000_000 + u32::try_from(versions.len()).unwrap();
                let served = pool.output(echo(number), Box::new(()), soon()).await.expect("no request fails");
                assert_eq!(&served.vector.bytes()[..8], f64::from(number).to_le_bytes(), "an answer to another's request");
                versions.push(version_of(&served));
            }
            versions
        });
    }
    for number in 1..=3 {
        let standby = pool.prepare(Some(site.artifact(number, false))).await.unwrap();
        pool.take_over(standby, at_once()).await.unwrap();
        assert_eq!(version(&pool).await.unwrap(), number, "whoever knows of the version is served by it");
    }
    over.store(true, Ordering::SeqCst);
    while let Some(versions) = clients.join_next().await {
        let versions = versions.unwrap();
        assert!(versions.is_sorted() && versions.len() > 3, "old, then new, and never back: {versions:?}");
    }
    site.processes_become(2).await;
    pool.stop().await;
}

#[tokio::test]
async fn a_request_the_old_version_has_is_answered_by_it() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    assert_eq!(version(&pool).await.unwrap(), 0);
    let standby = pool.prepare(Some(site.artifact(1, false))).await.unwrap();
    let slow = tokio::spawn({
        let pool = pool.clone();
        async move { pool.output(request(json!({"do": "sleep", "ms": 300})), Box::new(()), soon()).await }
    });
    site.host.hears_sleep().await;
    pool.take_over(standby, at_once()).await.unwrap();
    assert_eq!(version(&pool).await.unwrap(), 1, "the new version does not wait for the old");
    assert_eq!(version_of(&slow.await.unwrap().unwrap()), 0);
    site.processes_become(1).await;
    pool.stop().await;
}

#[tokio::test]
async fn a_commit_that_fails_leaves_the_old_version_at_work() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    version(&pool).await.unwrap();
    let standby = pool.prepare(Some(site.artifact(1, false))).await.unwrap();
    assert_eq!(site.processes().len(), 2);
    let (standby, error) = pool.take_over(standby, never()).await.unwrap_err();
    assert_eq!(error, "the database said no");
    drop(standby);
    assert_eq!(version(&pool).await.unwrap(), 0);
    site.processes_become(1).await;
    pool.stop().await;
}

#[tokio::test]
async fn nobody_is_answered_by_the_old_version_once_the_new_one_is_committed() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    version(&pool).await.unwrap();
    let standby = pool.prepare(Some(site.artifact(1, false))).await.unwrap();
    let asked_meanwhile = pool.take_over(standby, async {
        let asking = tokio::spawn({
            let pool = pool.clone();
            async move { version(&pool).await }
        });
        eventually("it waits", || (pool.status().queued == 1).then_some(())).await;
        Ok::<_, &str>(asking)
    });
    let answered = asked_meanwhile.await.unwrap().await.unwrap();
    assert_eq!(answered.unwrap(), 1);
    pool.stop().await;
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_leaves_the_old_one_at_work() {
    let site = Site::new();
    let pool = site.pool(PoolSettings { workers: 2, ..site.settings() });
    version(&pool).await.unwrap();
    let reason = pool.prepare(Some(site.artifact(1, true))).await.unwrap_err();
    assert!(reason.contains("broken on purpose"), "{reason}");
    assert_eq!((version(&pool).await.unwrap(), pool.status().last_error), (0, None));
    site.processes_become(2).await;
    pool.stop().await;
}

#[tokio::test]
async fn workers_on_standby_that_nobody_wants_are_let_go() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    version(&pool).await.unwrap();
    drop(pool.prepare(Some(site.artifact(1, false))).await.unwrap());
    site.processes_become(1).await;
    assert_eq!(version(&pool).await.unwrap(), 0);
    pool.stop().await;
}

#[tokio::test]
async fn the_new_version_survives_a_death() {
    let site = Site::new();
    let pool = site.pool(site.settings());
    let standby = pool.prepare(Some(site.artifact(1, false))).await.unwrap();
    pool.take_over(standby, at_once()).await.unwrap();
    let lost = pool.output(request(json!({"do": "abort"})), Box::new(()), soon()).await;
    assert!(matches!(lost, Err(OutputError::Lost(_))), "{lost:?}");
    assert_eq!(version(&pool).await.unwrap(), 1);
    pool.stop().await;
}

//! Being told that there is work.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::sync::Arc;
use std::time::Duration;

use super::Bench;
use super::given::{LEASE, claim_one, enqueue, job_with_key, new_job, retry_after};
use crate::Store;

pub async fn whoever_waits_for_work_is_told(bench: &mut dyn Bench) {
    let store = bench.store();
    let waiting = tokio::spawn(hint(store.clone()));
    enqueue(&*store, new_job()).await;
    waiting.await.unwrap();

    let lease = claim_one(&*store).await.lease;
    store.release(lease, Duration::ZERO).await.unwrap();
    hint(store.clone()).await;

    let lease = claim_one(&*store).await.lease;
    store.finish(lease, retry_after(Duration::ZERO)).await.unwrap();
    hint(store.clone()).await;

    claim_one(&*store).await;
    bench.advance(LEASE).await;
    store.rescue().await.unwrap();
    hint(store.clone()).await;

    let first = enqueue(&*store, job_with_key("user")).await;
    hint(store.clone()).await;
    store.cancel(first).await.unwrap();
    hint(store.clone()).await;
}

/// Fails instead of waiting for ever.
async fn hint(store: Arc<dyn Store>) {
    tokio::time::timeout(Duration::from_secs(30), store.work_hint()).await.expect("a hint that there is work");
}

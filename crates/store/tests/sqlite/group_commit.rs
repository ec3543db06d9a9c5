//! Changes that come together share a transaction.

use std::pin::pin;
use std::time::Duration;

use dunnage_store::{Jobs, NewJob, State, StoreError};
use dunnage_types::{JobId, JobKind, JsonObject, StateValue};
use futures_util::future::join_all;
use serde_json::json;

use crate::bench::{open, raw};

#[tokio::test]
async fn a_hundred_jobs_that_come_together_take_a_few_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let before = store.commits();
    let other = raw(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut all = pin!(tokio::task::unconstrained(join_all((0..100).map(|_| store.enqueue(new_job())))));
    tokio::select! {
        biased;
        _ = &mut all => panic!("nothing can be committed yet"),
        () = std::future::ready(()) => {}
    }
    // By now every job is in the queue; the first group waits for the lock with those that came first.
    other.execute_batch("ROLLBACK").unwrap();
    assert!(all.await.iter().all(Result::is_ok));
    assert_eq!(store.backlog().await.unwrap().queued, 100);
    let commits = store.commits() - before;
    assert!((1..=2).contains(&commits), "{commits} transactions");
}

#[tokio::test]
async fn one_that_fails_does_not_spoil_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.set(None, "text", StateValue::Json(json!("a"))).await.unwrap();
    let one = 1.into();
    let keys = ["n", "text", "n", "text", "n"];
    let outcomes = join_all(keys.map(|key| store.increment(None, key, &one))).await;
    for (key, outcome) in keys.into_iter().zip(outcomes) {
        match key {
            "n" => assert!(outcome.is_ok(), "{outcome:?}"),
            _ => assert!(matches!(outcome, Err(StoreError::NotANumber { .. })), "{outcome:?}"),
        }
    }
    assert_eq!(store.get("n").await.unwrap(), Some(StateValue::Json(json!(3))));
    assert_eq!(store.get("text").await.unwrap(), Some(StateValue::Json(json!("a"))));
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_still_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let other = raw(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    tokio::select! {
        biased;
        _ = store.enqueue(new_job()) => panic!("nothing can be committed yet"),
        () = std::future::ready(()) => {}
    }
    other.execute_batch("ROLLBACK").unwrap();
    tokio::time::timeout(Duration::from_secs(30), store.work_hint()).await.expect("the commit");
    assert_eq!(store.backlog().await.unwrap().queued, 1);
}

fn new_job() -> NewJob {
    let (files, params) = (Vec::new(), JsonObject::new());
    NewJob {
        id: JobId::random(),
        kind: JobKind::Train,
        files,
        params,
        key: None,
        idempotency: None,
        callback: None,
        output_uri: None,
        max_attempts: 3,
    }
}

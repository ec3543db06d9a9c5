//! Others at the same files.

use std::time::Duration;

use dunnage_store::suite::LIMITS;
use dunnage_store::{SqliteStore, State, StoreError};
use dunnage_types::StateValue;
use serde_json::json;

use crate::bench::{open, raw};

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = SqliteStore::open(folder.path(), "another".parse().unwrap(), LIMITS);
    let path = folder.path().display().to_string();
    assert!(matches!(&second, Err(StoreError::Locked { path: named }) if *named == path), "{second:?}");
    let clone = first.clone();
    drop(first);
    assert!(SqliteStore::open(folder.path(), "another".parse().unwrap(), LIMITS).is_err(), "a clone still holds it");
    drop(clone);
    open(folder.path());
}

#[tokio::test]
async fn a_database_that_another_process_writes_to_is_unavailable_for_that_time() {
    let folder = tempfile::tempdir().unwrap();
    let timeout = Duration::from_millis(50);
    let store = SqliteStore::open_with_busy_timeout(folder.path(), "mine".parse().unwrap(), LIMITS, timeout).unwrap();
    let one = StateValue::Json(json!(1));
    store.set(None, "key", one.clone()).await.unwrap();

    let other = raw(folder.path());
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let refused = store.set(None, "key", StateValue::Json(json!(2))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(store.get("key").await.unwrap(), Some(one.clone()), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();

    assert_eq!(store.get("key").await.unwrap(), Some(one), "what was refused is not done later");
    store.set(None, "key", StateValue::Json(json!(3))).await.unwrap();
}

//! Files that are no longer what they were.

use std::error::Error;
use std::fs;
use std::path::Path;

use dunnage_store::suite::LIMITS;
use dunnage_store::{SqliteStore, State, StoreError};
use dunnage_types::StateValue;

use crate::bench::{database_file, open, raw};

#[tokio::test]
async fn a_damaged_header_is_reported_and_the_file_left_alone() {
    let folder = folder_with_data().await;
    damage(folder.path(), |bytes| bytes[..100].fill(b'x'));
    assert_refused_untouched(folder.path());
}

#[tokio::test]
async fn a_damaged_page_is_reported_and_the_file_left_alone() {
    let folder = folder_with_data().await;
    damage(folder.path(), |bytes| overwrite_pages(bytes));
    assert_refused_untouched(folder.path());
}

#[tokio::test]
async fn a_truncated_file_is_reported_and_left_alone() {
    let folder = folder_with_data().await;
    damage(folder.path(), |bytes| bytes.truncate(bytes.len() / 2));
    assert_refused_untouched(folder.path());
}

#[tokio::test]
async fn a_write_ahead_log_is_not_moved_into_a_damaged_file() {
    let folder = folder_with_data().await;
    let store = open(folder.path());
    store.set(None, "later", StateValue::Bytes(vec![1; 5000])).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for file in ["dunnage.db", "dunnage.db-wal"] {
        fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    drop(store);
    damage(copy.path(), |bytes| overwrite_pages(bytes));
    let log = fs::read(copy.path().join("dunnage.db-wal")).unwrap();
    assert!(!log.is_empty());
    assert_refused_untouched(copy.path());
    assert_eq!(fs::read(copy.path().join("dunnage.db-wal")).unwrap(), log);
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_alone() {
    let folder = folder_with_data().await;
    raw(folder.path()).pragma_update(None, "user_version", 1000).unwrap();
    let before = fs::read(database_file(folder.path())).unwrap();
    let refused = SqliteStore::open(folder.path(), "mine".parse().unwrap(), LIMITS);
    assert!(matches!(refused, Err(StoreError::SchemaTooNew { found: 1000, known: 3 })), "{refused:?}");
    assert_eq!(fs::read(database_file(folder.path())).unwrap(), before);
}

/// The folder of a store that was closed, with enough in it to fill many pages.
async fn folder_with_data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..50 {
        store.set(None, &format!("key {number}"), StateValue::Bytes(vec![7; 2000])).await.unwrap();
    }
    drop(store);
    assert!(!folder.path().join("dunnage.db-wal").exists(), "closing moves the log into the file");
    folder
}

fn damage(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = database_file(folder);
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
}

/// Spoils the head of every page but the first.
fn overwrite_pages(bytes: &mut [u8]) {
    bytes.chunks_mut(4096).skip(1).for_each(|page| page[..200].fill(0xAA));
}

fn assert_refused_untouched(folder: &Path) {
    let file = database_file(folder);
    let before = fs::read(&file).unwrap();
    match SqliteStore::open(folder, "mine".parse().unwrap(), LIMITS) {
        Err(error @ StoreError::Corrupt { .. }) => {
            let advice = error.source().map(ToString::to_string).unwrap_or_default();
            assert!(error.to_string().contains("dunnage.db"), "{error}");
            assert!(advice.contains("restore a backup") && advice.contains(".recover"), "{advice}");
        }
        other => panic!("{other:?}"),
    }
    assert!(fs::read(&file).unwrap() == before, "the file should be left as it is");
}

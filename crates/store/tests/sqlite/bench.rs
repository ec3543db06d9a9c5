//! A SQLite store in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dunnage_store::suite::{Bench, LIMITS};
use dunnage_store::{SqliteStore, Store};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct SqliteBench {
    store: Option<SqliteStore>,
    folder: TempDir,
}

impl SqliteBench {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Some(open(folder.path())), folder }
    }

    fn sqlite(&self) -> &SqliteStore {
        self.store.as_ref().expect("open")
    }
}

#[async_trait]
impl Bench for SqliteBench {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.sqlite().clone())
    }

    fn other_service(&self) -> Arc<dyn Store> {
        Arc::new(self.sqlite().for_service("other".parse().unwrap()))
    }

    async fn advance(&self, time: Duration) {
        let milliseconds = i64::try_from(time.as_millis()).unwrap();
        let connection = raw(self.folder.path());
        let jobs = "UPDATE job SET run_at = run_at - ?1, lease_expires_at = lease_expires_at - ?1, deadline_at = deadline_at - ?1,
                                   created_at = created_at - ?1, started_at = started_at - ?1, finished_at = finished_at - ?1,
                                   callback_due = callback_due - ?1";
        let replicas = "UPDATE replica SET started_at = started_at - ?1, seen_at = seen_at - ?1";
        for statement in [jobs, replicas] {
            connection.execute(statement, [milliseconds]).unwrap();
        }
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open(self.folder.path()));
    }
}

pub(crate) fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder, "mine".parse().unwrap(), LIMITS).unwrap()
}

pub(crate) fn database_file(folder: &Path) -> PathBuf {
    folder.join("dunnage.db")
}

/// A connection beside the store's own.
pub(crate) fn raw(folder: &Path) -> Connection {
    let connection = Connection::open(database_file(folder)).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

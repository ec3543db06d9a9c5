//! The one thread that writes, and group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, ffi};
use tokio::sync::mpsc;

use super::call::{Operation, ended};
use crate::StoreError;

/// How many operations may wait. Callers wait for a place behind that, each with its operation in hand.
const QUEUE_LENGTH: usize = 512;
/// How many operations share a transaction at most. More would make the first wait long for the last.
const GROUP_LIMIT: usize = 128;

/// The writing thread: it takes whatever has queued up while it was busy, runs all of it in one transaction, and answers when
/// that is on disk. So the slower the disk, the more each of its flushes carries.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Operation>>>,
    thread: Option<JoinHandle<()>>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH);
        let commits = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&commits);
        let thread = std::thread::Builder::new()
            .name("store writer".to_owned())
            .spawn(move || write_until_closed(connection, receiver, &counter))
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), commits })
    }

    pub(super) async fn send(&self, operation: Box<dyn Operation>) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(operation).await.map_err(|_| ended())
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writing thread panicked");
        }
    }
}

fn write_until_closed(connection: Connection, mut queue: mpsc::Receiver<Box<dyn Operation>>, commits: &AtomicU64) {
    let mut group = Vec::with_capacity(GROUP_LIMIT);
    while queue.blocking_recv_many(&mut group, GROUP_LIMIT) > 0 {
        let undone = commit_group(&connection, &mut group).map_err(Arc::new).err();
        match &undone {
            None => _ = commits.fetch_add(1, Ordering::Relaxed),
            Some(error) => roll_back(&connection, error),
        }
        for operation in group.drain(..) {
            operation.answer(undone.as_ref());
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database could not be closed well; the next start repairs it");
    }
}

/// Runs the operations in one transaction. One that fails is undone alone; an error here undoes them all.
fn commit_group(connection: &Connection, group: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
    // At once for writing: a reading transaction that is to write later fails without waiting when another wrote first.
    execute(connection, "BEGIN IMMEDIATE")?;
    for operation in group {
        execute(connection, "SAVEPOINT operation")?;
        if !operation.run(connection) {
            // SQLite itself rolls everything back after some errors, such as a full disk.
            if connection.is_autocommit() {
                return Err(transaction_lost());
            }
            execute(connection, "ROLLBACK TO operation")?;
        }
        execute(connection, "RELEASE operation")?;
    }
    execute(connection, "COMMIT")
}

fn roll_back(connection: &Connection, cause: &rusqlite::Error) {
    tracing::error!(error = %cause, "a transaction failed and was undone");
    if !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::error!(%error, "the transaction could not be undone; the store stays unavailable");
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn transaction_lost() -> rusqlite::Error {
    let text = "another change in the same transaction failed and SQLite undid them all".to_owned();
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(text))
}

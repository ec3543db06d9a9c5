//! The embedded store: SQLite, for one server on one machine.
//!
//! One thread owns the connection that writes and commits whatever has queued up in one transaction ([`writer`]); others read
//! what is committed ([`readers`]). The SQL stands in [`jobs`], [`state`] and [`versions`], the schema in `migrations`.

mod call;
mod callbacks;
mod error;
mod jobs;
mod open;
mod readers;
mod replicas;
mod rows;
mod state;
mod versions;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dunnage_types::{ServiceName, Timestamp};
use rusqlite::Connection;
use tokio::sync::Notify;

use self::call::Call;
pub use self::open::FolderLock;
use self::readers::Readers;
use self::rows::Rows;
use self::writer::Writer;
use crate::{StateLimits, StoreError};

/// How long a statement waits for another process that writes to the database, such as the `sqlite3` tool.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A [`Store`](crate::Store) in one file, `dunnage.db`. Cheap to clone.
///
/// Changes are answered when they are on disk (`synchronous=FULL`); changes that come together share a transaction. A call
/// whose future is dropped takes effect all the same once it has been queued. A panic in an operation undoes that operation
/// alone and answers [`StoreError::Unavailable`].
///
/// Dropping the last clone waits for the threads, moves the write-ahead log into the file, and lets go of the folder.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    database: Arc<Database>,
    service: ServiceName,
    limits: StateLimits,
    hints: Arc<Hints>,
}

/// Who is told after a commit that may matter to them.
#[derive(Debug, Default)]
struct Hints {
    /// A job may have become due.
    work: Arc<Notify>,
    /// A callback may have.
    callbacks: Arc<Notify>,
    /// Another version may be active.
    versions: Arc<Notify>,
}

/// The threads and the lock, in the order in which they end.
#[derive(Debug)]
struct Database {
    readers: Readers,
    writer: Writer,
    _lock: FolderLock,
}

impl SqliteStore {
    /// Opens the database in `folder`, making both if need be, and holds the folder for as long as the store lives.
    ///
    /// Reads the whole file to check it, so it blocks: call it before serving, or where blocking is allowed. The jobs that a
    /// former server left running lose their leases: the lock proves that it is gone. The next rescue returns them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another server holds the folder, [`StoreError::Corrupt`] when the file is damaged and
    /// [`StoreError::SchemaTooNew`] when a later version made it; in all three the file is left as it is.
    pub fn open(folder: &Path, service: ServiceName, limits: StateLimits) -> Result<Self, StoreError> {
        Self::open_with_busy_timeout(folder, service, limits, BUSY_TIMEOUT)
    }

    /// Like [`SqliteStore::open`], but waits for other processes that write to the database for `busy_timeout` instead of 5 s.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub fn open_with_busy_timeout(
        folder: &Path,
        service: ServiceName,
        limits: StateLimits,
        busy_timeout: Duration,
    ) -> Result<Self, StoreError> {
        Self::open_locked(FolderLock::take(folder)?, folder, service, limits, busy_timeout)
    }

    /// Like [`SqliteStore::open`], for a caller that has taken the folder before, to put other things in it in order.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub fn open_locked(
        lock: FolderLock,
        folder: &Path,
        service: ServiceName,
        limits: StateLimits,
        busy_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let writing = open::writing_connection(folder, busy_timeout)?;
        jobs::expire_all_leases(&writing)?;
        let reading = || open::reading_connection(folder, busy_timeout);
        let database =
            Database { readers: Readers::start([reading()?, reading()?])?, writer: Writer::start(writing)?, _lock: lock };
        Ok(Self { database: Arc::new(database), service, limits, hints: Arc::default() })
    }

    /// The store of another service in the same database.
    #[must_use]
    pub fn for_service(&self, service: ServiceName) -> Self {
        Self { database: Arc::clone(&self.database), service, limits: self.limits, hints: Arc::default() }
    }

    /// How many transactions have been committed since the store was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.database.writer.commits()
    }

    /// Does `work` on the writing connection, and answers when it is committed. An error undoes it.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (call, answer) = Call::new(self.scoped(work));
        self.database.writer.send(Box::new(call)).await?;
        answer.await
    }

    /// Like [`SqliteStore::write`], for work that somebody waits for: who, says `whom`.
    async fn write_and_tell<T: Send + 'static>(
        &self,
        whom: impl FnOnce(&Hints) -> &Arc<Notify>,
        work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (call, answer) = Call::new(self.scoped(work));
        self.database.writer.send(Box::new(call.then_notify(Arc::clone(whom(&self.hints))))).await?;
        answer.await
    }

    /// Does `work` on what is committed now.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (call, answer) = Call::new(self.scoped(work));
        self.database.readers.send(Box::new(call)).await?;
        answer.await
    }

    fn scoped<T>(
        &self,
        work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static {
        let service = self.service.clone();
        move |connection| work(&Rows { connection, service: service.as_str(), now: Timestamp::now() })
    }
}

#[cfg(test)]
mod tests {
    use dunnage_types::StateValue;
    use tempfile::TempDir;

    use super::*;
    use crate::State;

    #[tokio::test]
    async fn a_panic_in_an_operation_undoes_that_operation_alone() {
        let (store, _folder) = open();
        let panicking = store.write::<()>(|rows| {
            rows.execute("DELETE FROM state", [])?;
            panic!("on purpose")
        });
        let (before, panicked, after) = tokio::join!(store.set(None, "a", value(1)), panicking, store.set(None, "b", value(1)));
        before.unwrap();
        after.unwrap();
        let error = panicked.unwrap_err();
        let StoreError::Unavailable(source) = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("on purpose"), "{source}");
        assert_eq!(store.scan("", None, 10).await.unwrap().len(), 2);
        let read = store.read::<()>(|_| panic!("on purpose")).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        assert!(store.get("a").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_full_disk_makes_the_store_unavailable_until_there_is_room() {
        let (store, _folder) = open();
        store.set(None, "small", value(1)).await.unwrap();
        let limit = |pages: u32| store.write(move |rows| set_most_pages(rows, pages));
        limit(1).await.unwrap();
        let refused = store.set(None, "large", value(1 << 20)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(store.get("large").await.unwrap(), None);
        assert_eq!(store.get("small").await.unwrap(), Some(value(1)));
        limit(1_000_000).await.unwrap();
        store.set(None, "large", value(1 << 20)).await.unwrap();
    }

    /// SQLite takes a limit below the present size as the present size.
    fn set_most_pages(rows: &Rows<'_>, pages: u32) -> Result<(), StoreError> {
        Ok(rows.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
    }

    fn value(bytes: usize) -> StateValue {
        StateValue::Bytes(vec![1; bytes])
    }

    fn open() -> (SqliteStore, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(folder.path(), "mine".parse().expect("a name"), StateLimits::default());
        (store.expect("a store"), folder)
    }
}

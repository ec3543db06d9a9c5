//! Connections: how they are made, borrowed, and given up.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::error::{TooLate, is_conflict, is_dead_connection, is_refusal};
use crate::StoreError;

/// How long a caller waits for a connection to become free.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// How long making a connection may take, log-in and all.
const CREATE_LIMIT: Duration = Duration::from_secs(5);
/// How long asking the server to end an abandoned statement may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// A parameter of a statement, with its type: statements are not prepared, so nobody else tells the server.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A few connections that are borrowed and given back. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    tls: MakeRustlsConnect,
    call_limit: Duration,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Makes no connection yet. Whatever a borrower does may take `call_limit` in all.
    pub(super) fn new(address: &Address, tls: MakeRustlsConnect, size: usize, call_limit: Duration) -> Self {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = deadpool_postgres::Pool::builder(Manager::from_config(address.config.clone(), tls.clone(), config))
            .max_size(size)
            .wait_timeout(Some(ACQUIRE_LIMIT))
            .create_timeout(Some(CREATE_LIMIT))
            .recycle_timeout(Some(ACQUIRE_LIMIT))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given");
        Self { pool, tls, call_limit }
    }

    pub(super) async fn get(&self) -> Result<Connection, StoreError> {
        let object = self.pool.get().await.inspect_err(|_| self.forget_idle())?;
        Ok(Connection {
            object: Some(object),
            pool: self.clone(),
            is_sound: true,
            is_in_transaction: false,
            deadline: Instant::now() + self.call_limit,
        })
    }

    /// Runs a statement that may be repeated without harm; once more if its connection turns out to be dead, or others got in its way.
    pub(super) async fn repeatable(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut connection = self.get().await?;
        match connection.query(sql, parameters).await {
            Err(error) if is_dead_connection(&error) || is_conflict(&error) => {
                drop(connection);
                self.once(sql, parameters).await
            }
            outcome => outcome,
        }
    }

    /// Runs a statement, and commits it.
    pub(super) async fn once(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        self.get().await?.query(sql, parameters).await
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        let mut connection = self.get().await?;
        connection.is_in_transaction = true;
        connection.run("BEGIN").await?;
        Ok(Transaction(connection))
    }

    /// Where one connection is dead, those that wait most likely are so too.
    fn forget_idle(&self) {
        self.pool.retain(|_, _| false);
    }
}

/// A borrowed connection. It goes back to the pool if all that was begun on it has ended; otherwise, as when its borrower was
/// dropped while it waited for an answer, it is closed.
pub(super) struct Connection {
    object: Option<Object>,
    pool: Pool,
    is_sound: bool,
    is_in_transaction: bool,
    deadline: Instant,
}

impl Connection {
    /// Runs a statement. It is parsed anew each time: a prepared one would be lost in PgBouncer's transaction mode.
    pub(super) async fn query(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        self.is_sound = false;
        let outcome = timeout_at(self.deadline, self.client().query_typed(sql, parameters)).await;
        self.settle(outcome)
    }

    /// Runs statements that have neither parameters nor rows.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.is_sound = false;
        let outcome = timeout_at(self.deadline, self.client().batch_execute(sql)).await;
        self.settle(outcome)
    }

    fn client(&self) -> &Object {
        self.object.as_ref().expect("borrowed until dropped")
    }

    fn settle<T>(&mut self, outcome: Result<Result<T, tokio_postgres::Error>, Elapsed>) -> Result<T, StoreError> {
        match outcome {
            Ok(Ok(value)) => {
                self.is_sound = true;
                Ok(value)
            }
            Ok(Err(error)) => {
                let error = StoreError::from(error);
                self.is_sound = is_refusal(&error);
                if is_dead_connection(&error) {
                    self.pool.forget_idle();
                }
                Err(error)
            }
            Err(_) => {
                self.cancel();
                Err(StoreError::Unavailable(Box::new(TooLate(self.pool.call_limit))))
            }
        }
    }

    /// Asks the server to end what nobody waits for any more, lest it go on holding locks.
    fn cancel(&self) {
        let (token, tls) = (self.client().cancel_token(), self.pool.tls.clone());
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(CANCEL_LIMIT, token.cancel_query(tls)).await {
                tracing::debug!(%error, "an abandoned statement could not be cancelled");
            }
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && (!self.is_sound || self.is_in_transaction)
        {
            drop(Object::take(object));
        }
    }
}

/// A transaction. Dropping it undoes it, at the price of its connection.
pub(super) struct Transaction(Connection);

impl Transaction {
    pub(super) async fn query(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        self.0.query(sql, parameters).await
    }

    /// Commits what went well, and undoes what did not.
    pub(super) async fn end<T>(mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match outcome {
            Ok(value) => {
                self.0.run("COMMIT").await?;
                self.0.is_in_transaction = false;
                Ok(value)
            }
            Err(error) => {
                // What cannot be undone here is undone by the server when the connection is closed.
                if self.0.is_sound && self.0.run("ROLLBACK").await.is_ok() {
                    self.0.is_in_transaction = false;
                }
                Err(error)
            }
        }
    }
}

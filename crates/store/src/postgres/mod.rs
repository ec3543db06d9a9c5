//! The shared store: PostgreSQL, for any number of servers.
//!
//! Statements stand in [`jobs`], [`state`], [`versions`], [`callbacks`] and [`replicas`], the schema in `migrations`. Each runs on
//! a connection borrowed from a [`connection::Pool`]; calls that come together share one ([`batch`]). Nothing rests on a session,
//! so PgBouncer in transaction mode will do: no statement is prepared, nothing is set, and every lock ends with its transaction.
//! The clock is the database's alone.

mod address;
mod batch;
mod callbacks;
mod connection;
mod error;
mod hints;
mod jobs;
mod listener;
mod open;
#[cfg(test)]
mod plans;
mod replicas;
mod rows;
mod state;
mod tls;
mod versions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::{Looping, Loops};
use dunnage_types::ServiceName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use self::connection::{Parameter, Pool, Transaction};
use self::hints::{Event, Hints, Waiters};
use self::jobs::Batches;
use crate::{StateLimits, StoreError};

/// How long a call waits for PostgreSQL, once it has a connection.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a renewal does: it comes again before its lease ends.
const RENEWAL_LIMIT: Duration = Duration::from_secs(5);
/// One connection of their own is enough for renewals, since they share statements.
const RENEWAL_CONNECTIONS: usize = 1;

/// Where a [`PostgresStore`] is kept, and how it is reached.
#[derive(Clone)]
pub struct PostgresSettings {
    /// The database: `postgres://user:password@host:5432/database`, or libpq's `host=… dbname=…`, with `sslmode` and `sslrootcert`
    /// as libpq means them.
    pub url: String,
    /// The service whose rows the store sees.
    pub service: ServiceName,
    /// How large state may grow.
    pub limits: StateLimits,
    /// How many connections calls share; 8 by default. Renewals and notifications have one each besides.
    pub connections: usize,
    /// How long a call waits for PostgreSQL, once it has a connection; 10 s by default.
    pub statement_timeout: Duration,
    /// How long a database that does not answer yet is waited for at the start; not at all by default.
    pub patience: Duration,
    /// How often it is checked that notifications can still be heard; every 10 s by default.
    pub listener_ping: Duration,
    /// Where the loops that tell and hear notifications are watched; by themselves by default.
    pub loops: Loops,
}

impl PostgresSettings {
    /// The usual settings for a service in the database at `url`.
    #[must_use]
    pub fn new(url: String, service: ServiceName) -> Self {
        Self {
            url,
            service,
            limits: StateLimits::default(),
            connections: 8,
            statement_timeout: CALL_LIMIT,
            patience: Duration::ZERO,
            listener_ping: listener::PING_EVERY,
            loops: Loops::default(),
        }
    }
}

impl fmt::Debug for PostgresSettings {
    /// Without the URL: it may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PostgresSettings")
            .field("service", &self.service)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Brings the schema of the database at `url` up to date, as opening a store does.
///
/// # Errors
///
/// As [`PostgresStore::open`].
pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
    let (from, to) = open::open(url, Duration::ZERO).await?.migrated;
    Ok(Migrated { from, to })
}

/// What [`migrate`] has done: nothing when the two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The schema's version before; 0 for an empty database.
    pub from: u32,
    /// Its version now.
    pub to: u32,
}

/// A [`Store`](crate::Store) in a PostgreSQL database, shared with other servers. Cheap to clone.
///
/// Changes are answered when PostgreSQL has committed them; how well that lasts is its `synchronous_commit`'s. Concurrent calls of
/// a kind share a statement. A call ends within a bounded time: with [`StoreError::Unavailable`] if the database does not answer,
/// and then it may have taken effect all the same.
///
/// A call whose future is dropped may take effect. Dropping the last clone closes the connections.
#[derive(Clone)]
pub struct PostgresStore {
    scope: Scope,
    limits: StateLimits,
    waiters: Arc<Waiters>,
    batches: Arc<Batches>,
    database: Arc<Database>,
}

/// What the stores of all services share.
struct Database {
    renewals: Pool,
    /// The listener, and who notifies others; they end with the last store.
    _loops: [Looping; 2],
}

/// What every operation works with: the connections, the service whose rows it may touch, and whoever is to be told.
#[derive(Clone)]
struct Scope {
    pool: Pool,
    service: ServiceName,
    /// The same, as statements take it.
    service_text: String,
    hints: Arc<Hints>,
}

impl PostgresStore {
    /// Connects to the database, and brings its schema up to date. Several servers may do so at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when there is no connection within the settings' patience, or none that can be used: the address
    /// is wrong, the server is older than PostgreSQL 12, or the database's encoding is not UTF-8. It says what was tried, without
    /// the password. [`StoreError::SchemaTooNew`] when a later version made the schema, which is left as it is.
    pub async fn open(settings: PostgresSettings) -> Result<Self, StoreError> {
        let opened = open::open(&settings.url, settings.patience).await?;
        let pool = |size, limit| Pool::new(&opened.address, opened.tls.clone(), size, limit);
        let renewals = pool(RENEWAL_CONNECTIONS, RENEWAL_LIMIT.min(settings.statement_timeout));
        let pool = pool(settings.connections.max(1), settings.statement_timeout);
        let hints = Arc::<Hints>::default();
        let telling = (Arc::clone(&hints), pool.clone());
        let notifier = settings.loops.start("notifier", move |beat| Arc::clone(&telling.0).notify_others(telling.1.clone(), beat));
        let place = listener::Place { address: opened.address, tls: opened.tls, ping_every: settings.listener_ping };
        let hearing = Arc::clone(&hints);
        let listener = settings.loops.start("listener", move |beat| listener::listen(place.clone(), Arc::clone(&hearing), beat));
        let database = Arc::new(Database { renewals, _loops: [notifier, listener] });
        Ok(Self::on(database, Scope::new(pool, settings.service, hints), settings.limits))
    }

    /// The store of another service in the same database, on the same connections. Call it within the runtime, as [`Self::open`].
    #[must_use]
    pub fn for_service(&self, service: ServiceName) -> Self {
        let scope = Scope::new(self.scope.pool.clone(), service, Arc::clone(&self.scope.hints));
        Self::on(Arc::clone(&self.database), scope, self.limits)
    }

    fn on(database: Arc<Database>, scope: Scope, limits: StateLimits) -> Self {
        let waiters = scope.hints.waiters(&scope.service);
        let batches = Arc::new(Batches::start(&scope, &database.renewals));
        Self { scope, limits, waiters, batches, database }
    }
}

impl Scope {
    fn new(pool: Pool, service: ServiceName, hints: Arc<Hints>) -> Self {
        let service_text = service.to_string();
        Self { pool, service, service_text, hints }
    }

    /// Runs a statement that changes nothing, or nothing more when it is repeated.
    async fn repeatable(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        self.pool.repeatable(sql, parameters).await
    }

    /// Runs a statement, and commits it.
    async fn once(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        self.pool.once(sql, parameters).await
    }

    async fn begin(&self) -> Result<Transaction, StoreError> {
        self.pool.begin().await
    }

    /// Tells whoever waits for the event, here and elsewhere. Call it when what happened is committed.
    fn tell(&self, event: Event) {
        self.hints.tell(&self.service, event);
    }

    /// The service, as the first parameter of a statement.
    fn service(&self) -> Parameter<'_> {
        (&self.service_text, Type::TEXT)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { pool, service, .. } = &self.scope;
        formatter.debug_struct("PostgresStore").field("service", service).field("pool", pool).finish_non_exhaustive()
    }
}

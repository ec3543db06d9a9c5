//! Jobs, state and versions of one service, kept in a database.
//!
//! A [`Store`] is the traits [`Jobs`], [`State`], [`Versions`], [`Callbacks`] and [`Replicas`] together; [`SqliteStore`] keeps one in a
//! file, [`PostgresStore`] in a database that servers share.
//! Every row is scoped by the service the store was opened for. `suite` states in code what every store promises.

mod callbacks;
mod error;
mod jobs;
mod lost;
mod postgres;
mod replicas;
mod sqlite;
mod state;
mod state_value;
mod versions;

#[cfg(feature = "suite")]
pub mod suite;

pub use callbacks::{Callbacks, Delivery, DueCallback};
pub use error::StoreError;
pub use jobs::{
    Ahead, Backlog, Cancelled, ClaimedJob, Committed, Enqueued, Finish, Idempotency, JobFilter, JobPage, Jobs, Lease, NewJob,
    Renewal, Terms, backoff,
};
pub use postgres::{Migrated, PostgresSettings, PostgresStore, migrate};
pub use replicas::Replicas;
pub use sqlite::{BUSY_TIMEOUT, FolderLock, SqliteStore};
pub use state::{MAX_KEY_BYTES, State, StateLimits};
pub use versions::Versions;

/// Everything a service keeps in its database.
pub trait Store: Jobs + State + Versions + Callbacks + Replicas {}

impl<T: Jobs + State + Versions + Callbacks + Replicas> Store for T {}

//! Jobs, state and versions of one service, kept in a database.
//!
//! A [`Store`] is the three traits [`Jobs`], [`State`] and [`Versions`] together; [`SqliteStore`] keeps one in a file.
//! Every row is scoped by the service the store was opened for. `suite` states in code what every store promises.

mod error;
mod jobs;
mod sqlite;
mod state;
mod versions;

#[cfg(feature = "suite")]
pub mod suite;

pub use error::StoreError;
pub use jobs::{
    Backlog, Cancelled, ClaimedJob, Enqueued, Finish, Idempotency, JobFilter, JobPage, Jobs, Lease, NewJob, Renewal, backoff,
};
pub use sqlite::{BUSY_TIMEOUT, FolderLock, SqliteStore};
pub use state::{MAX_KEY_BYTES, State, StateLimits};
pub use versions::Versions;

/// Everything a service keeps in its database.
pub trait Store: Jobs + State + Versions {}

impl<T: Jobs + State + Versions> Store for T {}

//! What can go wrong with a store.

use dunnage_types::{JobId, Version};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or does not answer in time. The same call may succeed later.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database holds something this version cannot read; nothing was changed.
    #[error("the database holds {what} that cannot be read")]
    Corrupt {
        /// What it is, and where.
        what: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another server holds the embedded database.
    #[error("another server is using `{path}`; stop it, or give this one a data directory of its own")]
    Locked {
        /// The database's folder.
        path: String,
    },
    /// The database was made by a later version.
    #[error("the database has schema {found}, this version knows up to {known}; run the newer version")]
    SchemaTooNew {
        /// The database's schema.
        found: u32,
        /// The latest this version knows.
        known: u32,
    },
    /// The attempt no longer holds the job: its lease ended and another took over, or the job has ended. Whatever it does is
    /// refused; its worker should be killed.
    #[error("this attempt at job `{0}` was superseded")]
    Superseded(JobId),
    /// There is no such job: it never existed, or its retention has ended.
    #[error("there is no job `{0}`")]
    UnknownJob(JobId),
    /// There is no such version.
    #[error("there is no version {0}")]
    UnknownVersion(Version),
    /// The version could not be loaded and may not serve.
    #[error("version {0} could not be loaded and may not serve")]
    BadVersion(Version),
    /// The idempotency key was used before, with another request.
    #[error("the idempotency key was used before, for another request")]
    IdempotencyMismatch,
    /// A key of the state is empty, too long, or holds a zero character.
    #[error("a state key has 1 to {} bytes and no zero characters", crate::MAX_KEY_BYTES)]
    InvalidKey,
    /// A value of the state is too large.
    #[error("the value for `{key}` has {size} bytes; at most {limit} are allowed (`--state-value-bytes`)")]
    ValueTooLarge {
        /// The key.
        key: String,
        /// The value's size in bytes.
        size: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// An increment met something that is no number, or the sum is out of range.
    #[error("`{key}` does not hold a number that can be incremented")]
    NotANumber {
        /// The key.
        key: String,
    },
    /// An array whose bytes do not fit its declared shape.
    #[error("the array for `{key}` has other bytes than its shape and type say")]
    InconsistentArray {
        /// The key.
        key: String,
    },
}

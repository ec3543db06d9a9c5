//! The plain data that every other crate speaks: who ([`JobId`], [`ServiceName`]), what ([`Job`], [`JobState`]), from where
//! ([`FileAddress`]) and with which answer ([`Vector`], [`StateValue`]).
//!
//! Nothing here does input or output. Begin reading at [`job`].

pub mod address;
pub mod array;
pub mod id;
pub mod job;
pub mod prefix;
pub mod replica;
pub mod state;
pub mod time;
pub mod vector;
pub mod version;

pub use address::{AddressError, FileAddress};
pub use array::{Array, Dtype};
pub use id::{InvalidId, JobId, ReplicaId, ServiceName, WorkerId};
pub use job::{
    Callback, CallbackState, Job, JobError, JobKind, JobState, JobStatus, LogLevel, LogLine, LogSource, NewLogLine, Progress,
};
pub use prefix::{ObjectPrefix, PrefixError};
pub use replica::{Presence, Replica};
pub use state::StateValue;
pub use time::Timestamp;
pub use vector::{NotFinite, Vector, VectorError, VectorType};
pub use version::{ModelVersion, Version, VersionState};

/// A JSON object, as clients send it in `Params` and scripts return it as metrics.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

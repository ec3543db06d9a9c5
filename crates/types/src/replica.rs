//! Replicas: the server processes of a service, as they tell each other of themselves.

use crate::{ReplicaId, Timestamp, Version};

/// What a replica says of itself, again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// The version that answers `/output` there; `None` before the first.
    pub serving: Option<Version>,
    /// Whether it answers `/output` at all.
    pub ready: bool,
    /// Why it does not serve the active version, when it cannot.
    pub error: Option<String>,
}

/// A replica that was there not long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name, for this life.
    pub id: ReplicaId,
    /// What it last said.
    pub presence: Presence,
    /// When it first said something.
    pub started_at: Timestamp,
    /// When it last did.
    pub seen_at: Timestamp,
}

//! The replicas of a service, as they tell each other of themselves.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{Presence, Replica, ReplicaId};

use crate::StoreError;

/// Who is there. For people and for `/models` only: no promise about jobs rests on it.
#[async_trait]
pub trait Replicas: Send + Sync {
    /// Notes that `replica` is there and how it is doing, instead of what it said before. Forgets those not heard of for `forget`.
    async fn announce(&self, replica: ReplicaId, presence: &Presence, forget: Duration) -> Result<(), StoreError>;

    /// Notes that `replica` is about to end.
    async fn depart(&self, replica: ReplicaId) -> Result<(), StoreError>;

    /// The replicas heard of within the last `within`, by the database's clock, the oldest first.
    async fn replicas(&self, within: Duration) -> Result<Vec<Replica>, StoreError>;
}

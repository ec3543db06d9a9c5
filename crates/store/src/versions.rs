//! Versions: what training has published.

use async_trait::async_trait;
use dunnage_types::{ModelVersion, Version};

use crate::{Lease, StoreError};

/// The versions of a service. At most one is active; only a version that is ready can become so.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Publishes the artifact named `artifact` under the next number, ready but not yet active.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`] unless the attempt still holds its job.
    async fn publish(&self, lease: Lease, artifact: &str) -> Result<Version, StoreError>;

    /// Makes a version the active one.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownVersion`], [`StoreError::BadVersion`].
    async fn activate(&self, version: Version) -> Result<(), StoreError>;

    /// Notes that a version cannot be loaded. The active version is left as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownVersion`].
    async fn mark_bad(&self, version: Version, error: &str) -> Result<(), StoreError>;

    /// Marks a version bad that its attempt could not bring to serve, unless it has become the active one or its job has ended well with it
    /// after all; whether it did. For a holder that cannot know how its last call ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownVersion`].
    async fn retract(&self, version: Version, error: &str) -> Result<bool, StoreError>;

    /// Marks every version bad whose training was cut off after it had been published: its job waits again, or has ended
    /// otherwise; how many.
    async fn retract_orphans(&self) -> Result<u64, StoreError>;

    /// The active version, if any has been published.
    async fn active(&self) -> Result<Option<ModelVersion>, StoreError>;

    /// Every version, newest first.
    async fn versions(&self) -> Result<Vec<ModelVersion>, StoreError>;

    /// Returns when another version may have become active since the last return. A hint like
    /// [`Jobs::work_hint`](crate::Jobs::work_hint).
    async fn version_hint(&self);
}

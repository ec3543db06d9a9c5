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

    /// The active version, if any has been published.
    async fn active(&self) -> Result<Option<ModelVersion>, StoreError>;

    /// Every version, newest first.
    async fn versions(&self) -> Result<Vec<ModelVersion>, StoreError>;
}

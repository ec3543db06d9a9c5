//! Callbacks: telling clients of the ends of their jobs.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{Job, JobId};

use crate::StoreError;

/// The callbacks that are to be delivered. They are kept with their jobs, and become due in the transaction that ends the job, so that none
/// is lost; one may be delivered more than once.
#[async_trait]
pub trait Callbacks: Send + Sync {
    /// Hands out up to `limit` callbacks that are due, the longest due first, and hides each for `patience`: whoever has taken one
    /// settles it by then, or another replica delivers it again. An attempt is charged now.
    async fn claim_callbacks(&self, limit: u32, patience: Duration) -> Result<Vec<DueCallback>, StoreError>;

    /// Settles attempt number `attempt` at a callback. Nothing changes if a later attempt has been begun since, or the job is gone.
    async fn settle_callback(&self, job: JobId, attempt: u32, outcome: Delivery) -> Result<(), StoreError>;

    /// Returns when a callback may have become due since the last return. A hint like [`Jobs::work_hint`](crate::Jobs::work_hint).
    async fn callback_hint(&self);
}

/// A callback to be delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct DueCallback {
    /// The job that has ended.
    pub job: Job,
    /// Where to post it to.
    pub url: String,
    /// Which delivery this is, from 1.
    pub attempt: u32,
}

/// How a delivery came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver has taken it.
    Delivered,
    /// It failed, for this reason, and is to be tried again after that time.
    Retry {
        /// Why, in a sentence for clients.
        error: String,
        /// When to try again, from now.
        after: Duration,
    },
    /// It failed for the last time.
    GivenUp {
        /// Why, in a sentence for clients.
        error: String,
    },
}

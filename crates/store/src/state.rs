//! The map behind `ctx.state`.

use async_trait::async_trait;
use dunnage_types::StateValue;
use serde_json::Number;

use crate::{Lease, StoreError};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The state of a service: a map from text to [`StateValue`], shared by all its workers.
///
/// Every call that changes something takes a fence: with `Some(lease)` it is refused with [`StoreError::Superseded`] unless the
/// attempt still holds its job; with `None` it always counts (a write from `output`).
///
/// # Errors
///
/// [`StoreError::InvalidKey`] for a key that is empty, too long or holds a zero character.
#[async_trait]
pub trait State: Send + Sync {
    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<StateValue>, StoreError>;

    /// Sets a key.
    async fn set(&self, fence: Option<Lease>, key: &str, value: StateValue) -> Result<(), StoreError>;

    /// Removes a key; whether it was there.
    async fn delete(&self, fence: Option<Lease>, key: &str) -> Result<bool, StoreError>;

    /// Adds `by` to the number a key holds, which counts as 0 when absent; the sum. Whole numbers stay whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotANumber`] if it holds something else, or the sum is out of range.
    async fn increment(&self, fence: Option<Lease>, key: &str, by: &Number) -> Result<Number, StoreError>;

    /// Sets a key to `new` if it holds `old`, compared by [`StateValue::same_as`]; whether it did. `None` means absent.
    async fn compare_and_set(
        &self,
        fence: Option<Lease>,
        key: &str,
        old: Option<StateValue>,
        new: Option<StateValue>,
    ) -> Result<bool, StoreError>;

    /// Up to `limit` entries whose keys begin with `prefix` and come behind `after`, in byte order. May end early so that the
    /// values stay below [`StateLimits::scan_bytes`], but never without an entry when there is one.
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, StateValue)>, StoreError>;
}

/// How large state may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateLimits {
    /// The largest value, in bytes. Flag `--state-value-bytes`.
    pub value_bytes: usize,
    /// About how many bytes of values one scan returns at most.
    pub scan_bytes: usize,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { value_bytes: 8 << 20, scan_bytes: 4 << 20 }
    }
}

//! What the cache has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the cache has done since it was opened, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Fetches that a copy answered, be it after S3 confirmed it.
    pub hits: u64,
    /// Fetches that no copy answered, those that failed included.
    pub misses: u64,
    /// Questions whether a copy still is the object.
    pub revalidations: u64,
    /// Files removed to make room.
    pub evictions: u64,
    /// Bytes on the disk, those that are yet to be written included.
    pub bytes: u64,
    /// Complete files.
    pub files: u64,
    /// Bytes of objects that arrived.
    pub bytes_fetched: u64,
    /// Times that the disk failed.
    pub disk_failures: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers that only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) revalidations: Counter,
    pub(super) evictions: Counter,
    pub(super) bytes_fetched: Counter,
    pub(super) disk_failures: Counter,
}

//! `ctx.state` as a server sees it: the database, and in front of it what has just been read.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dunnage_store::{Store, StoreError};
use dunnage_types::StateValue;
use prometheus::IntCounter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

/// What an entry takes up besides its key and value, about, in bytes.
const ENTRY_BYTES: u64 = 128;
/// An estimate of the size of an entry, in bytes, by which the cache lays out its tables.
const TYPICAL_ENTRY_BYTES: usize = 512;
/// Keys are spread over so many counters of writes. Two keys that share one only make each other's reads go to the database now and then.
const WRITE_COUNTERS: usize = 256;

/// A read cache for `/output`, in front of the state of a service.
///
/// It never answers with less than this server's own writes: a key is dropped before a write of it is sent and again when it has been answered,
/// and what was read while a write was under way is not kept. What other replicas have written it may miss for
/// [`StateCacheLimits::max_stale`] at most, counted from before the read was sent. Jobs do not use it: the next job of a key must see what the
/// one before has written on another replica.
pub(crate) struct CachedState {
    store: Arc<dyn Store>,
    entries: Cache<String, Entry, EntrySize>,
    writes: Writes,
    limits: StateCacheLimits,
    counters: StateCacheCounters,
}

/// How much the cache keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateCacheLimits {
    /// How much memory the entries take up at most, about, in bytes.
    pub(crate) bytes: u64,
    /// How old an answer may be. Zero turns the cache off.
    pub(crate) max_stale: Duration,
}

/// How often the cache had an answer, and how often it had not.
#[derive(Clone)]
pub(crate) struct StateCacheCounters {
    pub(crate) hits: IntCounter,
    pub(crate) misses: IntCounter,
}

/// What a key held, and since when that is known.
#[derive(Debug, Clone)]
struct Entry {
    value: Option<Arc<StateValue>>,
    asked: Instant,
}

#[derive(Clone)]
struct EntrySize;

impl Weighter<String, Entry> for EntrySize {
    fn weight(&self, key: &String, entry: &Entry) -> u64 {
        ENTRY_BYTES + key.len() as u64 + entry.value.as_ref().map_or(0, |value| value.size() as u64)
    }
}

impl CachedState {
    pub(crate) fn new(store: Arc<dyn Store>, limits: StateCacheLimits, counters: StateCacheCounters) -> Self {
        let capacity = usize::try_from(limits.bytes).unwrap_or(usize::MAX) / TYPICAL_ENTRY_BYTES;
        let entries = Cache::with_weighter(capacity.max(1), limits.bytes, EntrySize);
        Self { store, entries, writes: Writes::default(), limits, counters }
    }

    /// The database itself.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The value of a key, as it was [`StateCacheLimits::max_stale`] ago or later.
    ///
    /// # Errors
    ///
    /// That of the store.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<StateValue>, StoreError> {
        let asked = Instant::now();
        if let Some(entry) = self.entries.get(key).filter(|entry| asked - entry.asked < self.limits.max_stale) {
            self.counters.hits.inc();
            return Ok(entry.value.map(|value| StateValue::clone(&value)));
        }
        self.counters.misses.inc();
        let before = self.writes.quiet(key);
        let value = self.store.get(key).await?;
        if let Some(before) = before.filter(|_| !self.limits.max_stale.is_zero()) {
            self.entries.insert(key.to_owned(), Entry { value: value.clone().map(Arc::new), asked });
            // Looked at behind the insertion: a write that began in between has dropped the key too early.
            if self.writes.quiet(key) != Some(before) {
                self.entries.remove(key);
            }
        }
        Ok(value)
    }

    /// Has a key written by `change`, after which no read answers with what was there before.
    ///
    /// # Errors
    ///
    /// That of `change`.
    pub(crate) async fn write<T>(&self, key: &str, change: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let _writing = Writing::begin(self, key);
        change.await
    }
}

/// A write under way. It ends when this is dropped, also if its caller has lost patience; should it then be carried out after all, the
/// bound on age still holds.
struct Writing<'a> {
    state: &'a CachedState,
    key: &'a str,
}

impl<'a> Writing<'a> {
    fn begin(state: &'a CachedState, key: &'a str) -> Self {
        state.writes.begin(key);
        state.entries.remove(key);
        Self { state, key }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.state.writes.end(self.key);
        self.state.entries.remove(self.key);
    }
}

/// Which keys are being written, and have been: for each group of keys, how many writes have begun and how many of them have ended.
struct Writes {
    hasher: RandomState,
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Default for Writes {
    fn default() -> Self {
        Self { hasher: RandomState::new(), groups: (0..WRITE_COUNTERS).map(|_| Group::default()).collect() }
    }
}

impl Writes {
    /// How many writes of the key's group there have been, unless one is under way.
    fn quiet(&self, key: &str) -> Option<u64> {
        let group = self.group(key);
        // In this order: a write that begins in between makes the two differ.
        let ended = group.ended.load(Ordering::SeqCst);
        (group.begun.load(Ordering::SeqCst) == ended).then_some(ended)
    }

    fn begin(&self, key: &str) {
        self.group(key).begun.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self, key: &str) {
        self.group(key).ended.fetch_add(1, Ordering::SeqCst);
    }

    fn group(&self, key: &str) -> &Group {
        let hash = self.hasher.hash_one(key);
        &self.groups[usize::try_from(hash % WRITE_COUNTERS as u64).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use dunnage_store::{SqliteStore, State, StateLimits};
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        state: CachedState,
        /// Another way to the same database, as another replica has one.
        elsewhere: SqliteStore,
        _folder: TempDir,
    }

    impl Fixture {
        fn new(bytes: u64, max_stale: Duration) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(folder.path(), "mine".parse().unwrap(), StateLimits::default()).unwrap();
            let counter = |name: &str| IntCounter::new(name, "for a test").unwrap();
            let counters = StateCacheCounters { hits: counter("hits"), misses: counter("misses") };
            let state = CachedState::new(Arc::new(store.clone()), StateCacheLimits { bytes, max_stale }, counters);
            Self { state, elsewhere: store, _folder: folder }
        }

        async fn set_elsewhere(&self, key: &str, number: u32) {
            self.elsewhere.set(None, key, value(number)).await.unwrap();
        }

        async fn set(&self, key: &str, number: u32) {
            self.state.write(key, self.elsewhere.set(None, key, value(number))).await.unwrap();
        }

        async fn get(&self, key: &str) -> Option<StateValue> {
            self.state.get(key).await.unwrap()
        }
    }

    fn value(number: u32) -> StateValue {
        StateValue::Json(json!(number))
    }

    #[tokio::test]
    async fn what_was_read_is_answered_again_until_it_is_too_old() {
        let fixture = Fixture::new(1 << 20, SECOND);
        assert_eq!(fixture.get("k").await, None);
        fixture.set_elsewhere("k", 1).await;
        assert_eq!(fixture.get("k").await, None, "that there is nothing is remembered too");
        tokio::time::pause();
        tokio::time::advance(SECOND).await;
        tokio::time::resume();
        assert_eq!(fixture.get("k").await, Some(value(1)));
        assert_eq!((fixture.state.counters.hits.get(), fixture.state.counters.misses.get()), (1, 2));
    }

    #[tokio::test]
    async fn an_own_write_is_seen_at_once() {
        let fixture = Fixture::new(1 << 20, SECOND * 3600);
        for number in 0..20 {
            fixture.set("k", number).await;
            assert_eq!(fixture.get("k").await, Some(value(number)));
            assert_eq!(fixture.get("k").await, Some(value(number)));
        }
        assert_eq!(fixture.state.counters.hits.get(), 20);
    }

    #[tokio::test]
    async fn what_is_read_while_a_write_is_under_way_is_not_kept() {
        let fixture = Fixture::new(1 << 20, SECOND * 3600);
        let slow_write = fixture.state.write("k", async {
            assert_eq!(fixture.get("k").await, None);
            fixture.elsewhere.set(None, "k", value(1)).await
        });
        slow_write.await.unwrap();
        assert_eq!(fixture.get("k").await, Some(value(1)));
    }

    #[tokio::test]
    async fn a_read_that_a_write_overtakes_is_not_kept() {
        let fixture = Fixture::new(1 << 20, SECOND * 3600);
        let before = fixture.state.writes.quiet("k");
        fixture.set("k", 1).await;
        assert!(before.is_some() && fixture.state.writes.quiet("k") != before);
    }

    #[tokio::test]
    async fn a_write_that_is_given_up_leaves_the_key_to_be_read_anew() {
        let fixture = Fixture::new(1 << 20, SECOND * 3600);
        assert_eq!(fixture.get("k").await, None);
        let hangs = fixture.state.write("k", std::future::pending::<Result<(), StoreError>>());
        assert!(tokio::time::timeout(Duration::from_millis(10), hangs).await.is_err());
        fixture.set_elsewhere("k", 1).await;
        assert_eq!(fixture.get("k").await, Some(value(1)));
    }

    #[tokio::test]
    async fn the_cache_keeps_within_its_bytes() {
        let fixture = Fixture::new(10_000, SECOND * 3600);
        for number in 0..1000 {
            fixture.get(&format!("key {number}")).await;
        }
        assert!(fixture.state.entries.weight() <= 10_000 && fixture.state.entries.len() > 10, "{}", fixture.state.entries.len());
    }

    #[tokio::test]
    async fn without_an_age_nothing_is_kept() {
        let fixture = Fixture::new(1 << 20, Duration::ZERO);
        for number in 0..3 {
            fixture.set_elsewhere("k", number).await;
            assert_eq!(fixture.get("k").await, Some(value(number)));
        }
        assert_eq!(fixture.state.entries.len(), 0);
    }
}

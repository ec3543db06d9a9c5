//! An S3 that does what a test tells it to: [`Faulty`], its [`Object`]s, and the [`Fault`]s of its answers.

mod answer;
mod checksum;
mod connection;
mod content;
mod delivery;
mod fault;
mod listener;
mod matcher;
mod object;
mod operations;
mod record;
mod state;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

pub use checksum::Algorithm;
pub use fault::{End, Fault, Gate};
pub use matcher::Matcher;
pub use object::Object;
pub use record::Request;

use super::account::Account;
use listener::Listener;
use record::Log;
use state::{Bucket, Faults, Rule, State};

/// How long a test waits for requests that it expects.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that speaks S3, path style, on a free port of the loopback, and misbehaves as it is told.
///
/// It holds what it is given in memory, and takes every signature for right. It runs on threads of its own, so that tests may
/// block. Dropping it resets its connections.
pub struct Faulty {
    shared: Arc<Shared>,
    listener: Listener,
}

/// What the test and the connections have in common. Neither lock is held while the other is taken, or across an `.await`.
struct Shared {
    state: Mutex<State>,
    log: Mutex<Log>,
    /// Told of every change of the log.
    news: watch::Sender<()>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the state")
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics with the log")
    }

    fn tell(&self) {
        self.news.send_replace(());
    }
}

impl Faulty {
    /// Listens, with no bucket yet.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), log: Mutex::default(), news: watch::Sender::new(()) });
        Self { listener: Listener::start(Arc::clone(&shared)), shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Its URL, as `AWS_ENDPOINT_URL` has it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// An account that may do everything, as everybody may.
    #[must_use]
    pub fn account(&self) -> Account {
        let (key_id, secret, region) = ("AKIAFAULTY".to_owned(), "secret".to_owned(), "us-east-1".to_owned());
        Account { address: self.address(), key_id, secret, region }
    }

    /// Makes an empty bucket, or leaves the one that there is.
    pub fn create_bucket(&self, bucket: &str) {
        self.shared.state().buckets.entry(bucket.to_owned()).or_default();
    }

    /// Has a bucket keep every version of its objects from now on, and makes it if need be.
    pub fn keep_versions(&self, bucket: &str) {
        self.shared.state().buckets.entry(bucket.to_owned()).or_default().keeps_versions = true;
    }

    /// Writes an object, into a bucket that is made if need be; its version, if it has one.
    ///
    /// # Panics
    ///
    /// Never: no bucket is ever removed.
    pub fn put(&self, bucket: &str, key: &str, object: impl Into<Object>) -> Option<String> {
        self.create_bucket(bucket);
        let object = object.into();
        self.shared.state().put(bucket, key, object).expect("buckets stay")
    }

    /// Removes an object with all its versions, if it is there.
    pub fn remove(&self, bucket: &str, key: &str) {
        self.with_bucket(bucket, |bucket| bucket.remove(key, None));
    }

    /// Marks an object as deleted, as a bucket that keeps versions does.
    pub fn mark_deleted(&self, bucket: &str, key: &str) {
        self.put(bucket, key, Object::delete_marker().version("deleted"));
    }

    /// The newest version of an object, if it is there.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Object> {
        self.shared.state().buckets.get(bucket)?.newest(key).cloned()
    }

    /// The bytes of an object, if it is there.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.object(bucket, key).map(|object| object.bytes(0..object.size()))
    }

    /// The keys of the objects in a bucket, in order.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let state = self.shared.state();
        let bucket = state.buckets.get(bucket).into_iter();
        bucket.flat_map(|bucket| bucket.objects.keys().filter(|key| bucket.newest(key).is_some()).cloned()).collect()
    }

    /// How many multipart uploads are neither complete nor aborted.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.shared.state().uploads.len()
    }

    /// Has requests that match go wrong, each as the next fault says, until there are no more.
    ///
    /// Where several lists are meant for a request, it uses up a fault of the first of them that is not at its end.
    pub fn script(&self, matcher: Matcher, faults: impl IntoIterator<Item = Fault>) {
        let faults = Faults::Listed(faults.into_iter().collect());
        self.shared.state().rules.push(Rule { matcher, faults });
    }

    /// Has requests that match go wrong, as often as they come, where no list is meant for them.
    pub fn always(&self, matcher: Matcher, fault: Fault) {
        let faults = Faults::Always(fault);
        self.shared.state().rules.push(Rule { matcher, faults });
    }

    /// Forgets all faults; those that have begun take their course.
    pub fn clear_faults(&self) {
        self.shared.state().rules.clear();
    }

    /// Resets all connections and stops listening: connecting is refused until [`Faulty::accept`]. Returns when that holds.
    pub fn refuse(&self) {
        self.listener.set(false);
    }

    /// Listens again, on the same port.
    ///
    /// # Panics
    ///
    /// When somebody else has taken the port.
    pub fn accept(&self) {
        self.listener.set(true);
    }

    /// All requests that have arrived, in that order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log().requests.clone()
    }

    /// How many requests that match have arrived.
    #[must_use]
    pub fn count(&self, matcher: &Matcher) -> usize {
        self.shared.log().requests.iter().filter(|request| matcher.matches(request)).count()
    }

    /// How often the object at this path, `bucket/key`, was asked for with `GET`.
    #[must_use]
    pub fn gets(&self, path: &str) -> usize {
        self.count(&Matcher::get(path))
    }

    /// How many requests were without a whole answer at once, at most.
    #[must_use]
    pub fn most_open(&self) -> usize {
        self.shared.log().most_open
    }

    /// How many bytes of bodies the answers that were on their way at once had, at most.
    #[must_use]
    pub fn most_bytes_open(&self) -> u64 {
        self.shared.log().most_announced
    }

    /// Forgets the requests whose answers are at their end, and what was open.
    ///
    /// # Panics
    ///
    /// When a request is still open.
    pub fn clear_requests(&self) {
        let mut log = self.shared.log();
        assert!(log.requests.iter().all(|request| request.ended.is_some()), "requests are still open");
        *log = Log::default();
    }

    /// Waits until the requests are as expected. In a test that is not asynchronous, use [`crate::census::eventually`].
    ///
    /// # Panics
    ///
    /// When they are not for half a minute.
    pub async fn until(&self, what: &str, is_so: impl Fn(&[Request]) -> bool) {
        let mut news = self.shared.news.subscribe();
        let waiting = news.wait_for(|()| is_so(&self.shared.log().requests));
        let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(in_time, "not in time: {what}; {:#?}", self.requests());
    }

    fn with_bucket(&self, bucket: &str, act: impl FnOnce(&mut Bucket)) {
        if let Some(bucket) = self.shared.state().buckets.get_mut(bucket) {
            act(bucket);
        }
    }
}

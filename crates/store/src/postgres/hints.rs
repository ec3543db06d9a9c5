//! Who is told of what may matter to them: waiters in this process at once, those in others by `NOTIFY`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_types::ServiceName;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::CALL_LIMIT;
use super::connection::Pool;

/// How long a process keeps silent after it has notified the others: each notification takes a lock of the whole database server.
const SILENCE: Duration = Duration::from_millis(100);

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// What may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A job may have become due.
    Work,
    /// A callback may have.
    Callbacks,
    /// Another version may be active.
    Versions,
}

impl Event {
    pub(super) const ALL: [Self; 3] = [Self::Work, Self::Callbacks, Self::Versions];

    pub(super) fn channel(self) -> &'static str {
        match self {
            Self::Work => "dunnage_work",
            Self::Callbacks => "dunnage_callbacks",
            Self::Versions => "dunnage_versions",
        }
    }
}

/// The waiters of one service in this process.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    work: Notify,
    callbacks: Notify,
    versions: Notify,
}

impl Waiters {
    /// Returns when the event may have happened since the last return.
    pub(super) async fn wait(&self, event: Event) {
        self.of(event).notified().await;
    }

    /// Tells everybody who waits now, or else the next who does.
    fn tell(&self, event: Event) {
        self.of(event).notify_waiters();
        self.of(event).notify_one();
    }

    fn of(&self, event: Event) -> &Notify {
        match event {
            Event::Work => &self.work,
            Event::Callbacks => &self.callbacks,
            Event::Versions => &self.versions,
        }
    }
}

/// The waiters of every service in this process, and what the other processes are still to be told.
#[derive(Debug, Default)]
pub(super) struct Hints {
    waiters: Mutex<HashMap<ServiceName, Arc<Waiters>>>,
    untold: Mutex<BTreeSet<(Event, String)>>,
    something_untold: Notify,
}

impl Hints {
    pub(super) fn waiters(&self, service: &ServiceName) -> Arc<Waiters> {
        Arc::clone(lock(&self.waiters).entry(service.clone()).or_default())
    }

    /// Tells everybody who waits for the event, here and elsewhere. Call it when what happened is committed.
    pub(super) fn tell(&self, service: &ServiceName, event: Event) {
        self.waiters(service).tell(event);
        lock(&self.untold).insert((event, service.as_str().to_owned()));
        self.something_untold.notify_one();
    }

    /// Passes on what another process has told.
    pub(super) fn hear(&self, channel: &str, service: &str) {
        let event = Event::ALL.into_iter().find(|event| event.channel() == channel);
        let waiters = service.parse().ok().and_then(|service: ServiceName| lock(&self.waiters).get(&service).cloned());
        if let (Some(event), Some(waiters)) = (event, waiters) {
            waiters.tell(event);
        }
    }

    /// Tells everybody here everything: something may not have been heard.
    pub(super) fn tell_all(&self) {
        for waiters in lock(&self.waiters).values() {
            Event::ALL.into_iter().for_each(|event| waiters.tell(event));
        }
    }

    /// Tells the other processes, for ever. What cannot be told is let go: they look for themselves from time to time.
    pub(super) async fn notify_others(self: Arc<Self>, pool: Pool, beat: Beat) {
        loop {
            beat.idle();
            self.something_untold.notified().await;
            let untold = std::mem::take(&mut *lock(&self.untold));
            for (event, service) in untold {
                beat.within(CALL_LIMIT);
                let parameters = [(&event.channel() as _, Type::TEXT), (&service as _, Type::TEXT)];
                if let Err(error) = pool.repeatable(NOTIFY, &parameters).await {
                    tracing::debug!(%error, "the other replicas could not be notified");
                }
            }
            sleep(SILENCE).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

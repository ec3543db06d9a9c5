//! What a replica says of itself, so that `/models` can tell which replica serves what.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_types::Presence;
use tokio::sync::Notify;

use crate::app::App;
use crate::problem::chain;

/// How often a replica says that it is there.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// How long one is taken to be there after it last said so.
pub(crate) const PRESENT: Duration = Duration::from_secs(15);
/// How long one that says nothing is remembered.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// Where a replica's own news is put until it is announced.
#[derive(Debug, Default)]
pub(crate) struct PresenceBoard {
    error: Mutex<Option<String>>,
    news: Notify,
}

impl PresenceBoard {
    /// Has the others told soon: what this replica serves has changed.
    pub(crate) fn changed(&self) {
        self.news.notify_one();
    }

    /// Why the active version does not serve here; `None` when it does.
    pub(crate) fn set_error(&self, error: Option<String>) {
        let mut known = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != error {
            *known = error;
            self.news.notify_one();
        }
    }

    fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says again and again how this replica is doing.
pub(crate) async fn announce(app: Arc<App>, beat: Beat) {
    loop {
        if let Err(error) = app.store.announce(app.replica, &presence(&app), FORGET_AFTER).await {
            tracing::debug!(error = %chain(&error), "this replica cannot say that it is there");
        }
        tokio::select! {
            () = beat.rest(ANNOUNCE_EVERY.mul_f64(rand::random_range(0.75..=1.0))) => {}
            () = app.presence.news.notified() => {}
        }
    }
}

fn presence(app: &App) -> Presence {
    let status = app.pool.status();
    let ready = status.ready > 0;
    let failure = status.last_error.filter(|_| !ready).map(|unavailable| unavailable.detail);
    let serving = status.version.filter(|_| ready);
    Presence { serving, ready, error: app.presence.error().or(failure) }
}

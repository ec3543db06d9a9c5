//! Callbacks: tells clients of the ends of their jobs, at least once.
//!
//! The store keeps each callback with its job and hands it out when it is due. Begin reading at [`Deliveries`]; `post` makes one
//! delivery, `schedule` says what follows from it, and `target` and `resolver` hold the two checks of where one may go.

mod address;
mod message;
mod post;
mod resolver;
mod schedule;
mod signature;
mod target;

use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::{Beat, Looping};
use dunnage_store::{Delivery, DueCallback};
use dunnage_types::JobId;
use tokio::task::{JoinError, JoinSet};

use crate::app::App;
use crate::blocking::on_thread;
use crate::problem::chain;
use message::Message;
use post::{Post, Reply};
pub use signature::{CallbackSecret, InvalidSecret};
pub(crate) use target::{accept, shown};

/// How many deliveries may be made at once; each has a thread and a connection.
const MAX_IN_FLIGHT: usize = 8;
/// The longest wait between two looks at what is due; hints make the usual one shorter.
const POLL: Duration = Duration::from_secs(1);
/// The wait after the store has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long a delivery may take to be settled after its time is up; then another replica delivers it again.
const SETTLING: Duration = Duration::from_secs(5);
/// How long deliveries may go on when the server ends.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// The loop that delivers what is due. Every replica that has a secret has one.
pub(crate) struct Deliveries {
    looping: Option<Looping>,
}

impl Deliveries {
    /// Begins to deliver, if there is a secret to sign with; otherwise what is due waits for a server that has one.
    pub(crate) fn start(app: &Arc<App>) -> Self {
        let signs = !app.config.callbacks.secrets.is_empty();
        Self { looping: signs.then(|| app.start_loop("callbacks", deliver_all)) }
    }

    /// Takes nothing more, and gives what is being delivered a moment. The rest is delivered by another replica or the next
    /// start, once its patience has ended.
    pub(crate) async fn stop(self) {
        if let Some(mut looping) = self.looping {
            looping.tell_to_end();
            looping.ended().await;
        }
    }
}

async fn deliver_all(app: Arc<App>, beat: Beat) {
    let post = Arc::new(Post::new(&app.config.callbacks));
    let mut deliveries = JoinSet::new();
    while !beat.is_told_to_end() {
        beat.within(Duration::ZERO);
        let wait = take_due(&app, &post, &mut deliveries).await;
        tokio::select! {
            Some(ended) = deliveries.join_next() => report_panic(ended),
            () = app.store.callback_hint() => {}
            () = beat.rest(wait.mul_f64(rand::random_range(0.75..=1.25))) => {}
            () = beat.told_to_end() => {}
        }
    }
    let ended = async { while deliveries.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_MOMENT, ended).await.is_err() {
        tracing::info!(left = deliveries.len(), "callbacks were being delivered and will be delivered again");
    }
}

/// Begins as many deliveries as are due and may be in flight, and returns how long to wait until the next look.
async fn take_due(app: &Arc<App>, post: &Arc<Post>, deliveries: &mut JoinSet<()>) -> Duration {
    let free = u32::try_from(MAX_IN_FLIGHT - deliveries.len()).unwrap_or(0);
    if free == 0 {
        return POLL;
    }
    match app.store.claim_callbacks(free, app.config.callbacks.timeout + SETTLING).await {
        Ok(due) => {
            for callback in due {
                deliveries.spawn(deliver(Arc::clone(app), Arc::clone(post), callback));
            }
            POLL
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "callbacks have to wait");
            AFTER_FAILURE
        }
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a callback could not be delivered; it will be delivered again");
    }
}

/// Makes one delivery and settles it.
async fn deliver(app: Arc<App>, post: Arc<Post>, due: DueCallback) {
    let DueCallback { job, url, attempt } = due;
    let (id, host) = (job.id, target::host(&url));
    let sent = on_thread("callback", move || post.send(&url, &Message::of(job))).await;
    let reply = sent.unwrap_or_else(|error| {
        tracing::error!(job = %id, %error, "a callback's thread failed");
        Reply::failed("the server could not send it")
    });
    let outcome = schedule::settle(reply, attempt, &app.config.callbacks);
    observe(&app, id, &host, attempt, &outcome);
    if let Err(error) = app.store.settle_callback(id, attempt, outcome).await {
        tracing::error!(job = %id, error = %chain(&error), "a callback's outcome is lost; it will be delivered again");
    }
}

fn observe(app: &App, job: JobId, host: &str, attempt: u32, outcome: &Delivery) {
    let word = match outcome {
        Delivery::Delivered => {
            tracing::info!(%job, host, attempt, "callback delivered");
            "delivered"
        }
        Delivery::Retry { error, after } => {
            let wait_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(%job, host, attempt, error, wait_ms, "callback failed; it will be tried again");
            "retried"
        }
        Delivery::GivenUp { error } => {
            tracing::warn!(%job, host, attempt, error, "callback given up");
            "given_up"
        }
    };
    app.metrics.callback_settled(word);
}

//! Hearing what other processes tell, on a connection of its own. Only hints come this way: whoever waits looks for themselves from
//! time to time.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::error::Answer;
use super::hints::{Event, Hints};

/// How often it is checked that the connection still carries anything: to a server that has vanished it would look alive for ever.
pub(super) const PING_EVERY: Duration = Duration::from_secs(10);
/// How long connecting, and the answer to a ping, may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Where to listen, and how often to make sure of it.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) tls: MakeRustlsConnect,
    pub(super) ping_every: Duration,
}

/// Listens for ever, and connects anew whenever the connection is lost.
pub(super) async fn listen(place: Place, hints: Arc<Hints>, beat: Beat) {
    let Place { address, tls, ping_every } = place;
    let mut failures = 0;
    loop {
        beat.within(ANSWER_LIMIT);
        match timeout(ANSWER_LIMIT, subscribe(&address, &tls, &hints)).await {
            Ok(Ok(mut subscription)) => {
                failures = 0;
                // Something may have been told while nobody listened.
                hints.tell_all();
                subscription.until_lost(ping_every, &beat).await;
            }
            Ok(Err(error)) => tracing::debug!(error = %Answer(error), "the database's notifications cannot be listened to"),
            Err(_) => tracing::debug!("the database did not answer whoever wants to listen"),
        }
        let backoff = (FIRST_BACKOFF * 2_u32.saturating_pow(failures)).min(LONGEST_BACKOFF);
        failures += 1;
        beat.rest(backoff.mul_f64(rand::random_range(0.75..=1.25))).await;
    }
}

/// A connection that hears all channels, until it is dropped.
struct Subscription {
    client: Client,
    hearing: JoinSet<()>,
}

async fn subscribe(address: &Address, tls: &MakeRustlsConnect, hints: &Arc<Hints>) -> Result<Subscription, tokio_postgres::Error> {
    let (client, mut connection) = address.config.connect(tls.clone()).await?;
    let (mut hearing, hints) = (JoinSet::new(), Arc::clone(hints));
    hearing.spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                hints.hear(notification.channel(), notification.payload());
            }
        }
    });
    let subscriptions: Vec<_> = Event::ALL.iter().map(|event| format!("LISTEN {}", event.channel())).collect();
    client.batch_execute(&subscriptions.join("; ")).await?;
    Ok(Subscription { client, hearing })
}

impl Subscription {
    async fn until_lost(&mut self, ping_every: Duration, beat: &Beat) {
        loop {
            beat.within(ping_every + ANSWER_LIMIT);
            tokio::select! {
                _ = self.hearing.join_next() => return,
                () = sleep(ping_every) => {}
            }
            if !matches!(timeout(ANSWER_LIMIT, self.client.check_connection()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

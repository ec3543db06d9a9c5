//! Getting what an attempt has done into the database, though that is away for a moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dunnage_store::{Finish, Lease, Store, StoreError};
use dunnage_workers::Interrupt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::killed;
use crate::problem::chain;

/// The first wait before a change is repeated; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a change is repeated. While the database is away the lease, which somebody else keeps, ends it sooner; this is for one
/// that takes renewals and refuses everything else.
const PATIENCE: Duration = Duration::from_mins(10);

/// Makes a change, again and again while the database is away, until it goes through or is refused, the attempt is killed, or
/// patience ends.
///
/// A change whose answer was lost may be made twice; each of ours is refused, or harmless, the second time. Where it matters which of
/// the two it was, [`Settlement`] tells them apart.
pub(crate) async fn persist<T, F>(interrupts: &watch::Receiver<Interrupt>, mut change: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let begin = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = match change().await {
            Err(error @ StoreError::Unavailable(_)) if begin.elapsed() < PATIENCE => error,
            other => return other,
        };
        tracing::warn!(error = %chain(&error), "the end of an attempt could not be recorded; trying again");
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = LONGEST_WAIT.min(wait * 2),
            () = killed(interrupts.clone()) => return Err(error),
        }
    }
}

/// The end of an attempt, recorded by one try after the other.
///
/// A try whose answer was lost may have gone through all the same, and the next is then refused as if the job were another's. So once
/// an answer has been lost, a refusal is looked into.
pub(crate) struct Settlement<'a> {
    store: &'a dyn Store,
    lease: Lease,
    unanswered: AtomicBool,
}

impl<'a> Settlement<'a> {
    pub(crate) fn new(store: &'a dyn Store, lease: Lease) -> Self {
        Self { store, lease, unanswered: AtomicBool::new(false) }
    }

    /// Tries to end the attempt.
    ///
    /// # Errors
    ///
    /// That of the store; [`StoreError::Superseded`] only if it was not this attempt itself that ended its job before.
    pub(crate) async fn finish(&self, finish: &Finish) -> Result<(), StoreError> {
        self.settle(self.store.finish(self.lease, finish.clone())).await
    }

    /// The same, given up after `limit`; what has been sent by then may go through all the same, like any answer that was lost.
    pub(crate) async fn finish_within(&self, limit: Duration, finish: &Finish) -> Result<(), StoreError> {
        let finished = tokio::time::timeout(limit, self.finish(finish)).await;
        finished.unwrap_or_else(|_| {
            self.unanswered.store(true, Ordering::SeqCst);
            Err(StoreError::Unavailable(format!("it did not answer within {limit:?}").into()))
        })
    }

    /// Tries to hand the job back.
    ///
    /// # Errors
    ///
    /// As for [`Settlement::finish`].
    pub(crate) async fn release(&self, after: Duration) -> Result<(), StoreError> {
        self.settle(self.store.release(self.lease, after)).await
    }

    async fn settle(&self, change: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
        let refused = match change.await {
            Err(error @ StoreError::Unavailable(_)) => {
                self.unanswered.store(true, Ordering::SeqCst);
                return Err(error);
            }
            Err(error @ StoreError::Superseded(_)) if self.unanswered.load(Ordering::SeqCst) => error,
            other => return other,
        };
        if self.store.is_settled(self.lease).await? { Ok(()) } else { Err(refused) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StoreError {
        StoreError::Unavailable("away".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_goes_through_when_the_database_is_back() {
        let (_interrupt, interrupts) = watch::channel(Interrupt::None);
        let mut tries = 0;
        let made = persist(&interrupts, || {
            tries += 1;
            let back = tries == 4;
            async move { if back { Ok(7) } else { Err(away()) } }
        });
        assert_eq!(made.await.unwrap(), 7);
        assert_eq!(tries, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_given_up_when_the_attempt_is_killed_or_patience_ends() {
        let (interrupt, interrupts) = watch::channel(Interrupt::None);
        let begin = Instant::now();
        let never = || async { Err::<(), _>(away()) };
        assert!(matches!(persist(&interrupts, never).await, Err(StoreError::Unavailable(_))));
        assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < 2 * PATIENCE);
        interrupt.send_replace(Interrupt::Kill);
        let begin = Instant::now();
        assert!(persist(&interrupts, never).await.is_err());
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

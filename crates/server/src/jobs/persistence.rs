//! Getting what an attempt has done into the database, though that is away for a moment.

use std::time::Duration;

use dunnage_store::StoreError;
use dunnage_workers::Interrupt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::killed;
use crate::problem::chain;

/// The first wait before a change is repeated; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long a change is repeated. The lease, which somebody else keeps, may end it sooner.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a change, again and again while the database is away, until it goes through or is refused, the attempt is killed, or
/// patience ends.
///
/// A change whose answer was lost may be made twice; each of ours is refused, or harmless, the second time.
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
            () = tokio::time::sleep(wait) => wait *= 2,
            () = killed(interrupts.clone()) => return Err(error),
        }
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

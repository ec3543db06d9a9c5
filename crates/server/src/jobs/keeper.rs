//! Keeps the lease of a running attempt alive, and ends the attempt when it cannot be.

use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::{Beat, Looping};
use dunnage_store::{Lease, StoreError};
use dunnage_workers::Interrupt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::{App, escalate};
use crate::problem::chain;

/// A cancellation through another replica is noticed at the next renewal, so none is later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Renews `lease`, which was asked for at `asked`, until it is dropped. If this fails, the attempt is killed as well: nobody would know
/// for how long it holds its job.
///
/// The lease is trusted only by our own clock, from before it or its renewal was asked for: when that time is over the worker is
/// killed, because the job may by now belong to another. The database counts from later, so it never gives the job away sooner.
pub(crate) fn keep(app: Arc<App>, lease: Lease, asked: Instant, interrupt: watch::Sender<Interrupt>) -> Looping {
    let loops = app.loops.clone();
    let orphaned = interrupt.clone();
    let keeping = move |beat| async move { Keeper { app, lease, interrupt, beat }.keep(asked).await };
    loops.start_once("keeper", keeping, move || escalate(&orphaned, Interrupt::Kill))
}

struct Keeper {
    app: Arc<App>,
    lease: Lease,
    interrupt: watch::Sender<Interrupt>,
    beat: Beat,
}

impl Keeper {
    /// Ends with the trust in the lease.
    async fn keep(self, asked: Instant) {
        let length = self.app.config.jobs.lease;
        let mut trusted_until = asked + trusted(length);
        let usual_pause = LONGEST_PAUSE.min(length / 3);
        let mut pause = usual_pause;
        loop {
            self.beat.within(length);
            tokio::time::sleep_until(trusted_until.min(Instant::now() + pause)).await;
            let sent = Instant::now();
            match self.renew(trusted_until).await {
                Renewed::Yes => (trusted_until, pause) = (sent + trusted(length), usual_pause),
                Renewed::NotYet => pause = length / 20,
                Renewed::Lost => break,
            }
        }
        self.beat.finish();
        escalate(&self.interrupt, Interrupt::Kill);
    }

    /// Asks once for the lease to go on.
    async fn renew(&self, trusted_until: Instant) -> Renewed {
        let job = self.lease.job;
        match tokio::time::timeout_at(trusted_until, self.app.store.renew(self.lease, self.app.config.jobs.lease)).await {
            Ok(Ok(renewal)) => {
                if renewal.cancel_requested {
                    escalate(&self.interrupt, Interrupt::Cancel);
                }
                Renewed::Yes
            }
            Ok(Err(StoreError::Superseded(_))) => Renewed::Lost,
            Ok(Err(error)) if Instant::now() < trusted_until => {
                tracing::warn!(error = %chain(&error), %job, "a lease could not be renewed; trying again");
                Renewed::NotYet
            }
            Ok(Err(_)) | Err(_) => {
                tracing::error!(%job, "a lease could not be renewed in time; ending the attempt");
                Renewed::Lost
            }
        }
    }
}

/// What came of asking for a lease to go on.
enum Renewed {
    Yes,
    NotYet,
    Lost,
}

/// A tenth is left for the worker to be killed in.
fn trusted(lease: Duration) -> Duration {
    lease.mul_f64(0.9)
}

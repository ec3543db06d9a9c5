//! Keeps the lease of a running attempt alive, and ends the attempt when it cannot be.

use std::sync::Arc;
use std::time::Duration;

use dunnage_store::{Lease, StoreError};
use dunnage_workers::Interrupt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::app::{App, escalate};
use crate::problem::chain;

/// A cancellation through another replica is noticed at the next renewal, so none is later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Renews `lease`, which was asked for at `asked`, until it is aborted.
///
/// The lease is trusted only by our own clock, from before it or its renewal was asked for: when that time is over the worker is
/// killed, because the job may by now belong to another. The database counts from later, so it never gives the job away sooner.
pub(crate) fn keep(app: Arc<App>, lease: Lease, asked: Instant, interrupt: watch::Sender<Interrupt>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let length = app.config.jobs.lease;
        let mut trusted_until = asked + trusted(length);
        let usual_pause = LONGEST_PAUSE.min(length / 3);
        let mut pause = usual_pause;
        loop {
            tokio::time::sleep_until(trusted_until.min(Instant::now() + pause)).await;
            let sent = Instant::now();
            match tokio::time::timeout_at(trusted_until, app.store.renew(lease, length)).await {
                Ok(Ok(renewal)) => {
                    trusted_until = sent + trusted(length);
                    pause = usual_pause;
                    if renewal.cancel_requested {
                        escalate(&interrupt, Interrupt::Cancel);
                    }
                }
                Ok(Err(StoreError::Superseded(_))) => return escalate(&interrupt, Interrupt::Kill),
                Ok(Err(error)) if Instant::now() < trusted_until => {
                    pause = length / 20;
                    tracing::warn!(error = %chain(&error), job = %lease.job, "a lease could not be renewed; trying again");
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::error!(job = %lease.job, "a lease could not be renewed in time; ending the attempt");
                    return escalate(&interrupt, Interrupt::Kill);
                }
            }
        }
    })
}

/// A tenth is left for the worker to be killed in.
fn trusted(lease: Duration) -> Duration {
    lease.mul_f64(0.9)
}

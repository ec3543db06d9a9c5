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

/// Renews `lease` until it is aborted.
///
/// The lease is trusted only by our own clock, from before a renewal was sent: when that time is over the worker is killed,
/// because the job may by now belong to another.
pub(crate) fn keep(app: Arc<App>, lease: Lease, interrupt: watch::Sender<Interrupt>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let length = app.config.jobs.lease;
        let mut trusted_until = Instant::now() + trusted(length);
        loop {
            tokio::time::sleep(length / 3).await;
            let sent = Instant::now();
            match tokio::time::timeout_at(trusted_until, app.store.renew(lease, length)).await {
                Ok(Ok(renewal)) => {
                    trusted_until = sent + trusted(length);
                    if renewal.cancel_requested {
                        escalate(&interrupt, Interrupt::Cancel);
                    }
                }
                Ok(Err(StoreError::Superseded(_))) => return escalate(&interrupt, Interrupt::Kill),
                Ok(Err(error)) if Instant::now() < trusted_until => {
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

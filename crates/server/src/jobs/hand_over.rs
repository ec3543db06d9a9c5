//! Jobs that are run where they were submitted, without having been in the queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dunnage_store::{Enqueued, NewJob, StoreError};
use tokio::time::Instant;

use super::station::{Seat, Station};
use super::{attempt, slot};
use crate::app::App;

/// The stations of a server, for whoever has a job that one of them may run at once.
#[derive(Default)]
pub(crate) struct Stations(Mutex<Vec<Arc<Station>>>);

impl Stations {
    /// Has a station take jobs until the answer is dropped.
    pub(super) fn open(&self, station: &Arc<Station>) -> Open<'_> {
        self.lock().push(Arc::clone(station));
        Open { stations: self, station: Arc::clone(station) }
    }

    /// A seat at a station whose worker is idle, if there is one.
    fn seat(&self) -> Option<Seat> {
        self.lock().iter().find_map(Station::spare_seat)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Station>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A station that takes jobs. When this is dropped it takes none any more.
pub(super) struct Open<'a> {
    stations: &'a Stations,
    station: Arc<Station>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.stations.lock().retain(|station| !Arc::ptr_eq(station, &self.station));
        self.station.close();
    }
}

/// Commits a job. If a worker here is idle and the queue lets it pass, it is claimed with the same commit and runs at once.
///
/// # Errors
///
/// As for [`dunnage_store::Jobs::enqueue`].
pub(crate) async fn submit(app: &Arc<App>, job: NewJob) -> Result<Enqueued, StoreError> {
    let seat = if job.can_pass_by() { app.stations.seat() } else { None };
    let Some(seat) = seat else { return app.store.enqueue(job).await };
    let asked = Instant::now();
    let committed = app.store.enqueue_claimed(job, app.replica, slot::terms(app)).await?;
    if let Some(claimed) = committed.claimed {
        let (station, lease) = (Arc::clone(seat.station()), claimed.lease);
        if !station.start(app, seat, claimed, asked) {
            attempt::hand_back(app, lease).await;
        }
    }
    Ok(committed.enqueued)
}

//! Fetches that several may wait for.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::download::Download;
use super::name::FileId;
use super::{Cached, RequestQuota, Revalidate, Shared, State};
use crate::FileProblem;
use crate::source::{ObjectAddress, Urgency};

/// A fetch under way, of which there is one at most for each object. It is a task of its own, so that nobody's loss of interest
/// harms the others, and ends when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Flight {
    id: FileId,
    waiters: usize,
    /// Of whoever began it.
    urgency: Urgency,
    /// Whether somebody waits who does not fetch ahead.
    pub(super) wanted: bool,
    phases: watch::Receiver<Phase>,
    task: AbortHandle,
}

/// How far a fetch is.
#[derive(Debug)]
pub(super) enum Phase {
    /// S3 has not been asked yet.
    Preparing,
    /// S3 is being asked, since this moment.
    Asking { conditional: bool, since: u64 },
    /// The object takes up this much and is waiting for room or being written.
    Arriving { bytes: u64 },
    /// It is over.
    Landed(Result<Landing, FileProblem>),
}

/// What a fetch that went well brought.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    pub(super) cached: Cached,
    /// Whether it was downloaded and not there before.
    pub(super) downloaded: bool,
}

/// What there is for somebody who wants an object.
pub(super) enum Approach {
    /// A copy that is fresh enough.
    Copy(Cached),
    /// A fetch that brings what is wanted.
    Seat(Seat),
    /// A fetch whose answer may be older than the wish. There will be something else once it has got further.
    Wait(watch::Receiver<Phase>),
}

/// A place among those who wait for a fetch. Dropping it gives it up.
pub(super) struct Seat {
    shared: Arc<Shared>,
    object: ObjectAddress,
    flight: FileId,
    urgency: Urgency,
    phases: watch::Receiver<Phase>,
}

impl Shared {
    /// What there is for somebody who wants `object` and arrived at the given moment, or now; and the moment.
    pub(super) fn approach(self: &Arc<Self>, object: &ObjectAddress, urgency: Urgency, arrived: Option<u64>) -> (u64, Approach) {
        let mut state = self.state();
        let arrived = arrived.unwrap_or_else(|| state.index.next_moment());
        let entry = state.index.current(object);
        let usable = entry.filter(|entry| entry.verified && entry.is_fresh(self.settings.revalidate, arrived, Instant::now()));
        if let Some(kept) = usable.map(|entry| entry.kept.clone()) {
            state.index.pin(kept.id, urgency);
            return (arrived, Approach::Copy(self.pinned(kept)));
        }
        (arrived, self.board(&mut state, object, urgency, arrived))
    }

    fn board(self: &Arc<Self>, state: &mut State, object: &ObjectAddress, urgency: Urgency, arrived: u64) -> Approach {
        let flight = match state.flights.entry(object.clone()) {
            Entry::Vacant(vacant) => vacant.insert(self.take_off(object, urgency)),
            Entry::Occupied(flight) => flight.into_mut(),
        };
        let mut phases = flight.phases.clone();
        // Marked as seen, so that who waits is woken by what comes next.
        let suits = phases.borrow_and_update().suits(self.settings.revalidate, arrived);
        if !suits {
            return Approach::Wait(phases);
        }
        flight.waiters += 1;
        flight.wanted |= urgency == Urgency::Wanted;
        let (flight, urgency) = (flight.id, flight.urgency);
        Approach::Seat(Seat { shared: self.clone(), object: object.clone(), flight, urgency, phases })
    }

    fn take_off(self: &Arc<Self>, object: &ObjectAddress, urgency: Urgency) -> Flight {
        let id = self.next_id();
        let (sender, phases) = watch::channel(Phase::Preparing);
        let download = Download::new(self.clone(), object.clone(), urgency, id, sender);
        let task = tokio::spawn(download.run()).abort_handle();
        Flight { id, waiters: 0, urgency, wanted: false, phases, task }
    }

    /// Goes on from an approach until there is a copy.
    pub(super) async fn fetch_from(
        self: &Arc<Self>,
        mut approach: Approach,
        object: &ObjectAddress,
        urgency: Urgency,
        request: &RequestQuota,
        arrived: u64,
    ) -> Result<Landing, FileProblem> {
        loop {
            match approach {
                Approach::Copy(cached) if cached.is_intact() => return Ok(Landing { cached, downloaded: false }),
                Approach::Copy(cached) => self.discard(&cached, "was changed or removed"),
                Approach::Wait(mut phases) => {
                    // An error means that the fetch is over, which is waited for as well.
                    let _ = phases.changed().await;
                }
                Approach::Seat(seat) => {
                    let began_ahead = seat.urgency == Urgency::Ahead && urgency == Urgency::Wanted;
                    match seat.landing(request).await {
                        Err(problem) if began_ahead && problem.is_transient() => {}
                        landed => return landed,
                    }
                }
            }
            (_, approach) = self.approach(object, urgency, Some(arrived));
        }
    }

    /// The flight is over, and others may begin.
    pub(super) fn land(&self, object: &ObjectAddress, id: FileId) {
        let flight = {
            let mut state = self.state();
            state.flights.get(object).is_some_and(|flight| flight.id == id).then(|| state.flights.remove(object))
        };
        drop(flight);
    }

    fn leave(&self, object: &ObjectAddress, id: FileId) {
        let mut state = self.state();
        let Some(flight) = state.flights.get_mut(object).filter(|flight| flight.id == id) else { return };
        flight.waiters -= 1;
        let abandoned = if flight.waiters == 0 { state.flights.remove(object) } else { None };
        drop(state);
        if let Some(flight) = abandoned {
            flight.task.abort();
        }
    }
}

#[cfg(test)]
impl Flight {
    /// How many wait for it.
    pub(super) fn waiters(&self) -> usize {
        self.waiters
    }
}

impl Phase {
    /// Whether somebody who arrived at that moment may share what comes of it. All share a download; but that a copy is the object
    /// is known only as of the moment of the question.
    fn suits(&self, revalidate: Revalidate, arrived: u64) -> bool {
        match self {
            Self::Asking { conditional: true, since } if revalidate == Revalidate::Always => *since > arrived,
            _ => true,
        }
    }
}

impl Seat {
    async fn landing(mut self, request: &RequestQuota) -> Result<Landing, FileProblem> {
        loop {
            match &*self.phases.borrow_and_update() {
                Phase::Arriving { bytes } => request.admit(&self.object, *bytes, self.shared.settings.capacity)?,
                Phase::Landed(result) => return result.clone(),
                Phase::Preparing | Phase::Asking { .. } => {}
            }
            if self.phases.changed().await.is_err() {
                return Err(FileProblem::Unavailable("the fetch broke off".to_owned()));
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.leave(&self.object, self.flight);
    }
}

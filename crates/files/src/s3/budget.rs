//! How many bytes may be on their way at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::source::Urgency;

/// A budget of bytes that all requests share. Cheap to clone.
///
/// What is wanted is served first, in order. What is fetched ahead has a quarter of the budget at most, and gets nothing while
/// anybody waits for something that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    used_ahead: u64,
    wanted: VecDeque<Waiter>,
    ahead: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    sender: oneshot::Sender<Share>,
}

impl Budget {
    /// A budget of `bytes`, all of it unused.
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared { bytes, state: Mutex::default() }))
    }

    /// Waits until `bytes` are free, and takes them until the share is dropped. More than there are at all counts as all there are.
    pub(super) async fn take(&self, bytes: u64, urgency: Urgency) -> Share {
        let bytes = bytes.min(self.limit(urgency));
        // Dropped after the receiver: whoever waited behind one that is gone may be next.
        let _others = Regrant(self);
        let (sender, receiver) = oneshot::channel();
        self.lock().queue(urgency).push_back(Waiter { bytes, sender });
        self.grant();
        // The sender is in the queue or has sent: it is never dropped unheard.
        receiver.await.unwrap_or_else(|_| Share { budget: self.clone(), bytes: 0, urgency })
    }

    fn limit(&self, urgency: Urgency) -> u64 {
        match urgency {
            Urgency::Wanted => self.0.bytes,
            Urgency::Ahead => self.0.bytes / 4,
        }
    }

    /// Serves those who wait, as far as there is something. A share whose taker has gone comes back by being dropped.
    fn grant(&self) {
        while let Some((waiter, urgency)) = self.next() {
            let share = Share { budget: self.clone(), bytes: waiter.bytes, urgency };
            drop(waiter.sender.send(share));
        }
    }

    fn next(&self) -> Option<(Waiter, Urgency)> {
        let mut state = self.lock();
        state.forget_the_gone();
        let free = self.0.bytes - state.used;
        let urgency = if state.wanted.is_empty() { Urgency::Ahead } else { Urgency::Wanted };
        let free = if urgency == Urgency::Ahead { free.min(self.limit(urgency) - state.used_ahead) } else { free };
        let waiter = state.queue(urgency).pop_front_if(|waiter| waiter.bytes <= free)?;
        state.add(waiter.bytes, urgency);
        Some((waiter, urgency))
    }

    fn give_back(&self, bytes: u64, urgency: Urgency) {
        self.lock().subtract(bytes, urgency);
        self.grant();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves those who wait when it is dropped.
struct Regrant<'a>(&'a Budget);

impl Drop for Regrant<'_> {
    fn drop(&mut self) {
        self.0.grant();
    }
}

impl State {
    fn forget_the_gone(&mut self) {
        self.wanted.retain(|waiter| !waiter.sender.is_closed());
        self.ahead.retain(|waiter| !waiter.sender.is_closed());
    }

    fn queue(&mut self, urgency: Urgency) -> &mut VecDeque<Waiter> {
        match urgency {
            Urgency::Wanted => &mut self.wanted,
            Urgency::Ahead => &mut self.ahead,
        }
    }

    fn add(&mut self, bytes: u64, urgency: Urgency) {
        self.used += bytes;
        if urgency == Urgency::Ahead {
            self.used_ahead += bytes;
        }
    }

    fn subtract(&mut self, bytes: u64, urgency: Urgency) {
        self.used -= bytes;
        if urgency == Urgency::Ahead {
            self.used_ahead -= bytes;
        }
    }
}

/// Bytes that were taken from the budget; dropping gives them back.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: u64,
    urgency: Urgency,
}

impl Share {
    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        if let Some(surplus) = self.bytes.checked_sub(bytes).filter(|surplus| *surplus > 0) {
            self.bytes = bytes;
            self.budget.give_back(surplus, self.urgency);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes, self.urgency);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_more_is_given_than_there_is() {
        let budget = Budget::new(100);
        let first = budget.take(60, Urgency::Wanted).await;
        let mut second = pin!(budget.take(60, Urgency::Wanted));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        second.await;
        assert_eq!(budget.lock().used, 0);
    }

    #[tokio::test]
    async fn a_surplus_goes_to_those_who_wait() {
        let budget = Budget::new(100);
        let mut first = budget.take(100, Urgency::Wanted).await;
        let mut second = pin!(budget.take(60, Urgency::Wanted));
        assert!((&mut second).now_or_never().is_none());
        first.shrink_to(40);
        let second = second.await;
        assert_eq!(budget.lock().used, 100);
        drop((first, second));
        assert_eq!(budget.lock().used, 0);
    }

    #[tokio::test]
    async fn what_is_fetched_ahead_has_a_quarter_and_yields() {
        let budget = Budget::new(100);
        let ahead = budget.take(25, Urgency::Ahead).await;
        let mut more_ahead = pin!(budget.take(10, Urgency::Ahead));
        assert!((&mut more_ahead).now_or_never().is_none());
        let mut wanted = pin!(budget.take(80, Urgency::Wanted));
        assert!((&mut wanted).now_or_never().is_none());
        drop(ahead);
        let wanted = wanted.await;
        assert!((&mut more_ahead).now_or_never().is_some(), "20 are left, and nothing that is wanted waits");
        drop(wanted);
    }

    #[tokio::test]
    async fn nothing_is_fetched_ahead_while_something_wanted_waits() {
        let budget = Budget::new(100);
        let held = budget.take(50, Urgency::Wanted).await;
        let mut wanted = pin!(budget.take(80, Urgency::Wanted));
        assert!((&mut wanted).now_or_never().is_none());
        let mut ahead = pin!(budget.take(10, Urgency::Ahead));
        assert!((&mut ahead).now_or_never().is_none(), "although 50 are free");
        drop(held);
        drop(wanted.await);
        ahead.await;
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_nothing_behind() {
        let budget = Budget::new(100);
        let held = budget.take(100, Urgency::Wanted).await;
        {
            let mut gone = pin!(budget.take(100, Urgency::Wanted));
            assert!((&mut gone).now_or_never().is_none());
        }
        drop(held);
        let all = budget.take(100, Urgency::Wanted).await;
        drop(all);
        assert_eq!(budget.lock().used, 0);
    }

    #[tokio::test]
    async fn who_stops_waiting_lets_the_next_one_pass() {
        let budget = Budget::new(100);
        let held = budget.take(50, Urgency::Wanted).await;
        let mut gone = Box::pin(budget.take(80, Urgency::Wanted));
        assert!((&mut gone).now_or_never().is_none());
        let mut small = pin!(budget.take(10, Urgency::Wanted));
        assert!((&mut small).now_or_never().is_none(), "it stands behind");
        drop(gone);
        assert!((&mut small).now_or_never().is_some());
        drop(held);
    }

    #[tokio::test]
    async fn more_than_there_is_at_all_takes_all() {
        let budget = Budget::new(100);
        drop(budget.take(1000, Urgency::Wanted).await);
        drop(budget.take(1000, Urgency::Ahead).await);
        assert_eq!(budget.lock().used, 0);
    }
}

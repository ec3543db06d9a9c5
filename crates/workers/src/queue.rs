//! What waits for a serving worker: first come, first served, and not without bound.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue between the HTTP side and the serving workers.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    capacity: usize,
    /// Wakes takers that have nothing to do.
    arrived: Notify,
    /// Wakes takers that have something to do and could take more.
    spare: Notify,
}

/// What waits, by its number: the least has come first. A map, so that what was taken can be put back in its place.
#[derive(Debug)]
struct Waiting<T> {
    items: BTreeMap<u64, T>,
    next: u64,
    /// How many takers have nothing to do. While there are any, the others take nothing.
    idle: usize,
}

impl<T> Waiting<T> {
    /// What an idle taker is about to take does not wait, and leaves `capacity` to what does.
    fn is_full(&self, capacity: usize) -> bool {
        self.items.len() >= capacity.saturating_add(self.idle)
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let waiting = Mutex::new(Waiting { items: BTreeMap::new(), next: 0, idle: 0 });
        Self { waiting, capacity, arrived: Notify::new(), spare: Notify::new() }
    }

    /// Appends an item and returns its number, by which it can be removed; gives it back when the queue is full.
    pub(crate) fn push(&self, item: T) -> Result<u64, T> {
        let (number, is_for_idle) = {
            let mut waiting = self.lock();
            if waiting.is_full(self.capacity) {
                return Err(item);
            }
            let number = waiting.next;
            waiting.next += 1;
            waiting.items.insert(number, item);
            (number, waiting.items.len() <= waiting.idle)
        };
        self.tell(is_for_idle);
        Ok(number)
    }

    /// Puts an item that was taken back into its place, also when the queue is full.
    pub(crate) fn put_back(&self, number: u64, item: T) {
        let is_for_idle = {
            let mut waiting = self.lock();
            waiting.items.insert(number, item);
            waiting.items.len() <= waiting.idle
        };
        self.tell(is_for_idle);
    }

    /// Removes an item, unless it has been taken.
    pub(crate) fn remove(&self, number: u64) -> Option<T> {
        self.lock().items.remove(&number)
    }

    /// Takes the oldest item and its number, waiting for one, for as long as the taker `may` take any; then it waits for ever. May be
    /// dropped and called again without losing an item.
    pub(crate) async fn pop(&self, may: impl Fn() -> bool) -> (u64, T) {
        let mut idle = Idle::new(self);
        while may() {
            if let Some(item) = idle.take(|_| may()) {
                return item;
            }
            self.arrived.notified().await;
        }
        drop(idle);
        // Another may take what this one was woken for.
        self.arrived.notify_one();
        std::future::pending().await
    }

    /// Takes the oldest item if there is one and it fits. Never waits.
    pub(crate) fn pop_if(&self, fits: impl FnOnce(&T) -> bool) -> Option<(u64, T)> {
        self.take_oldest(&mut self.lock(), fits)
    }

    /// Waits for an oldest item and takes it if it fits; `None` if it does not. May be dropped and called again.
    pub(crate) async fn pop_when(&self, fits: impl Fn(&T) -> bool) -> Option<(u64, T)> {
        let mut idle = Idle::new(self);
        loop {
            if let Some(item) = idle.take(&fits) {
                return Some(item);
            }
            if self.len() > 0 {
                return None;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes up to `most` of the oldest items, as far as they fit, for a taker that has something to do already, if it `may` take any.
    /// It takes its share of what waits for so many takers, and nothing while another one is idle. Nothing is taken where that makes
    /// fewer than `least`.
    pub(crate) fn take_ahead(
        &self,
        least: usize,
        most: usize,
        takers: usize,
        may: impl FnOnce() -> bool,
        fits: impl Fn(&T) -> bool,
    ) -> Vec<(u64, T)> {
        let mut waiting = self.lock();
        if waiting.idle > 0 || !may() {
            return Vec::new();
        }
        let share = waiting.items.len().div_ceil(takers.max(1)).max(least).min(most);
        let count = waiting.items.values().take(share).take_while(|item| fits(item)).count();
        let count = if count < least { 0 } else { count };
        std::iter::from_fn(|| waiting.items.pop_first()).take(count).collect()
    }

    /// Waits until something may have come that no idle taker is there for. May be dropped and called again.
    pub(crate) async fn spare(&self) {
        self.spare.notified().await;
    }

    /// Tells another taker of what this one was told of and cannot take.
    pub(crate) fn pass_on(&self) {
        self.spare.notify_one();
    }

    /// Takes everything.
    pub(crate) fn drain(&self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.lock().items).into_values()
    }

    /// Waits until whoever is taking an item has taken it. Those who come after that find `may` and `fits` as they are now.
    pub(crate) fn settle(&self) {
        drop(self.lock());
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// How many items there are, and whether that is all that may be.
    pub(crate) fn occupancy(&self) -> (usize, bool) {
        let waiting = self.lock();
        (waiting.items.len(), waiting.is_full(self.capacity))
    }

    fn take_oldest(&self, waiting: &mut Waiting<T>, fits: impl FnOnce(&T) -> bool) -> Option<(u64, T)> {
        let oldest = waiting.items.first_entry().filter(|oldest| fits(oldest.get()));
        let item = oldest.map(std::collections::btree_map::OccupiedEntry::remove_entry);
        if !waiting.items.is_empty() {
            // Two arrivals may have woken one taker only, or one that leaves the item for another.
            self.arrived.notify_one();
        }
        item
    }

    fn tell(&self, is_for_idle: bool) {
        if is_for_idle { self.arrived.notify_one() } else { self.spare.notify_one() }
    }

    /// No code that could panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A taker that has nothing to do, until it has taken something or is dropped.
struct Idle<'a, T> {
    queue: &'a Queue<T>,
    counts: bool,
}

impl<'a, T> Idle<'a, T> {
    fn new(queue: &'a Queue<T>) -> Self {
        queue.lock().idle += 1;
        Self { queue, counts: true }
    }

    /// Takes the oldest item if there is one and it fits; the taker then has something to do.
    fn take(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<(u64, T)> {
        let mut waiting = self.queue.lock();
        let item = self.queue.take_oldest(&mut waiting, fits);
        if item.is_some() {
            waiting.idle -= 1;
            self.counts = false;
        }
        item
    }
}

impl<T> Drop for Idle<'_, T> {
    fn drop(&mut self) {
        if self.counts {
            let mut waiting = self.queue.lock();
            waiting.idle -= 1;
            if waiting.items.len() > waiting.idle {
                // What was left to this taker is for whoever can take it.
                self.queue.spare.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let queue = Queue::new(1);
        assert!(queue.push(1).is_ok());
        assert_eq!(queue.push(2), Err(2));
        assert_eq!(queue.pop_if(|_| true), Some((0, 1)));
        assert!(queue.push(3).is_ok());
    }

    #[test]
    fn idle_takers_leave_the_queue_to_what_waits() {
        let queue = Queue::new(1);
        let mut idle = Idle::new(&queue);
        assert!(queue.push(1).is_ok() && !queue.occupancy().1, "the first is for the idle one");
        assert!(queue.push(2).is_ok());
        assert_eq!((queue.occupancy(), queue.push(3)), ((2, true), Err(3)));
        assert_eq!(idle.take(|_| true), Some((0, 1)));
        assert_eq!((queue.occupancy(), queue.push(3)), ((1, true), Err(3)), "that one has something to do now");
    }

    #[test]
    fn what_is_removed_makes_room_and_changes_no_order() {
        let queue = Queue::new(3);
        let numbers = [1, 2, 3].map(|item| queue.push(item).unwrap());
        assert_eq!((queue.remove(numbers[1]), queue.remove(numbers[1])), (Some(2), None));
        assert!(queue.push(4).is_ok());
        assert_eq!(queue.pop_if(|_| true), Some((0, 1)));
        assert_eq!(queue.remove(numbers[0]), None, "it has been taken");
        assert_eq!(queue.drain().collect::<Vec<_>>(), [3, 4]);
    }

    #[tokio::test]
    async fn who_may_take_nothing_leaves_it_to_another() {
        let queue = Queue::new(9);
        assert!(queue.push(1).is_ok());
        let patience = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(patience, queue.pop(|| false)).await.is_err());
        assert_eq!(tokio::time::timeout(patience, queue.pop(|| true)).await, Ok((0, 1)));
    }

    #[tokio::test]
    async fn no_item_is_left_behind_between_two_takers() {
        let queue = Arc::new(Queue::new(1000));
        let taker = |queue: Arc<Queue<u32>>| async move {
            let mut sum = 0;
            loop {
                match queue.pop(|| true).await.1 {
                    0 => return sum,
                    item => sum += item,
                }
            }
        };
        let takers = [tokio::spawn(taker(Arc::clone(&queue))), tokio::spawn(taker(Arc::clone(&queue)))];
        (1..=100).chain([0, 0]).for_each(|item| assert!(queue.push(item).is_ok()));
        let mut total = 0;
        for taker in takers {
            total += taker.await.unwrap();
        }
        assert_eq!(total, 5050);
    }

    #[test]
    fn what_is_put_back_has_its_old_place() {
        let queue = Queue::new(3);
        (1..=3).for_each(|item| assert!(queue.push(item).is_ok()));
        let taken = queue.take_ahead(1, 2, 1, || true, |_| true);
        assert_eq!(taken, [(0, 1), (1, 2)]);
        assert!(queue.push(4).is_ok());
        taken.into_iter().rev().for_each(|(number, item)| queue.put_back(number, item));
        assert_eq!(queue.remove(1), Some(2), "its number is the same");
        assert_eq!(queue.drain().collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn only_what_fits_is_taken_ahead_and_only_if_that_is_enough() {
        let queue = Queue::new(9);
        [1, 2, 7, 3].into_iter().for_each(|item| assert!(queue.push(item).is_ok()));
        let small = |item: &i32| *item < 5;
        assert_eq!(queue.take_ahead(3, 9, 1, || true, small), []);
        assert_eq!(queue.take_ahead(2, 9, 1, || true, small), [(0, 1), (1, 2)]);
        assert_eq!(queue.take_ahead(1, 9, 1, || true, small), [], "nothing overtakes the one that does not fit");
    }

    #[tokio::test]
    async fn nothing_is_taken_ahead_that_an_idle_taker_could_have() {
        let queue = Arc::new(Queue::new(9));
        let taker = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.pop(|| true).await }
        });
        while queue.lock().idle == 0 {
            tokio::task::yield_now().await;
        }
        assert!(queue.push(1).is_ok());
        assert_eq!(queue.take_ahead(1, 9, 1, || true, |_| true), []);
        assert_eq!(taker.await.unwrap(), (0, 1));
        assert!(queue.push(2).is_ok());
        assert_eq!(queue.take_ahead(1, 9, 1, || true, |_| true), [(1, 2)], "nobody is idle any more");
    }

    #[test]
    fn takers_that_are_busy_share_what_waits() {
        let queue = Queue::new(9);
        (0..7).for_each(|item| assert!(queue.push(item).is_ok()));
        let taken = |takers| queue.take_ahead(1, 9, takers, || true, |_| true).len();
        assert_eq!((taken(3), taken(2), taken(2), taken(1)), (3, 2, 1, 1));
    }

    #[tokio::test]
    async fn what_an_idle_taker_leaves_behind_is_told_to_the_others() {
        let queue = Queue::new(9);
        let idle = Idle::new(&queue);
        assert!(queue.push(1).is_ok());
        drop(idle);
        tokio::time::timeout(std::time::Duration::from_secs(5), queue.spare()).await.expect("it is told");
        assert_eq!(queue.take_ahead(1, 9, 1, || true, |_| true), [(0, 1)]);
    }
}

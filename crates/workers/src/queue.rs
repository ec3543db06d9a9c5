//! What waits for a serving worker: first come, first served, and not without bound.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue between the HTTP side and the serving workers.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    capacity: usize,
    arrived: Notify,
}

/// What waits, by its number: the least has come first.
#[derive(Debug)]
struct Waiting<T> {
    items: BTreeMap<u64, T>,
    next: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let waiting = Mutex::new(Waiting { items: BTreeMap::new(), next: 0 });
        Self { waiting, capacity, arrived: Notify::new() }
    }

    /// Appends an item and returns its number, by which it can be removed; gives it back when the queue is full.
    pub(crate) fn push(&self, item: T) -> Result<u64, T> {
        let number = {
            let mut waiting = self.lock();
            if waiting.items.len() >= self.capacity {
                return Err(item);
            }
            let number = waiting.next;
            waiting.next += 1;
            waiting.items.insert(number, item);
            number
        };
        self.arrived.notify_one();
        Ok(number)
    }

    /// Removes an item, unless it has been taken.
    pub(crate) fn remove(&self, number: u64) -> Option<T> {
        self.lock().items.remove(&number)
    }

    /// Takes the oldest item, waiting for one, for as long as the taker `may` take any; then it waits for ever. May be dropped and called
    /// again without losing an item.
    pub(crate) async fn pop(&self, may: impl Fn() -> bool) -> T {
        while may() {
            if let Some(item) = self.pop_if(|_| may()) {
                return item;
            }
            self.arrived.notified().await;
        }
        // Another may take what this one was woken for.
        self.arrived.notify_one();
        std::future::pending().await
    }

    /// Takes the oldest item if there is one and it fits. Never waits.
    pub(crate) fn pop_if(&self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut waiting = self.lock();
        let oldest = waiting.items.first_entry().filter(|oldest| fits(oldest.get()));
        let item = oldest.map(std::collections::btree_map::OccupiedEntry::remove);
        if !waiting.items.is_empty() {
            // Two arrivals may have woken one taker only, or one that leaves the item for another.
            self.arrived.notify_one();
        }
        item
    }

    /// Waits for an oldest item and takes it if it fits; `None` if it does not. May be dropped and called again.
    pub(crate) async fn pop_when(&self, fits: impl Fn(&T) -> bool) -> Option<T> {
        loop {
            if let Some(item) = self.pop_if(&fits) {
                return Some(item);
            }
            if self.len() > 0 {
                return None;
            }
            self.arrived.notified().await;
        }
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

    /// How many may wait.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// No code that could panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(queue.pop_if(|_| true), Some(1));
        assert!(queue.push(3).is_ok());
    }

    #[test]
    fn what_is_removed_makes_room_and_changes_no_order() {
        let queue = Queue::new(3);
        let numbers = [1, 2, 3].map(|item| queue.push(item).unwrap());
        assert_eq!((queue.remove(numbers[1]), queue.remove(numbers[1])), (Some(2), None));
        assert!(queue.push(4).is_ok());
        assert_eq!(queue.pop_if(|_| true), Some(1));
        assert_eq!(queue.remove(numbers[0]), None, "it has been taken");
        assert_eq!(queue.drain().collect::<Vec<_>>(), [3, 4]);
    }

    #[tokio::test]
    async fn who_may_take_nothing_leaves_it_to_another() {
        let queue = Queue::new(9);
        assert!(queue.push(1).is_ok());
        let patience = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(patience, queue.pop(|| false)).await.is_err());
        assert_eq!(tokio::time::timeout(patience, queue.pop(|| true)).await, Ok(1));
    }

    #[tokio::test]
    async fn no_item_is_left_behind_between_two_takers() {
        let queue = Arc::new(Queue::new(1000));
        let taker = |queue: Arc<Queue<u32>>| async move {
            let mut sum = 0;
            loop {
                match queue.pop(|| true).await {
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
}

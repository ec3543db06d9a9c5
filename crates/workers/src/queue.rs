//! What waits for a serving worker: first come, first served, and not without bound.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue between the HTTP side and the serving workers.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
    arrived: Notify,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { items: Mutex::new(VecDeque::new()), capacity, arrived: Notify::new() }
    }

    /// Appends an item, or gives it back when the queue is full of items that are still wanted.
    pub(crate) fn push(&self, item: T, is_wanted: impl Fn(&T) -> bool) -> Result<(), T> {
        {
            let mut items = self.lock();
            if items.len() >= self.capacity {
                items.retain(is_wanted);
            }
            if items.len() >= self.capacity {
                return Err(item);
            }
            items.push_back(item);
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes the oldest item, waiting for one. May be dropped and called again without losing any.
    pub(crate) async fn pop(&self) -> T {
        loop {
            if let Some(item) = self.pop_if(|_| true) {
                return item;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the oldest item if there is one and it fits. Never waits.
    pub(crate) fn pop_if(&self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut items = self.lock();
        let item = if items.front().is_some_and(fits) { items.pop_front() } else { None };
        if !items.is_empty() {
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
    pub(crate) fn drain(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.lock())
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// No code that could panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let queue = Queue::new(1);
        let always = |_: &i32| true;
        assert_eq!(queue.push(1, always), Ok(()));
        assert_eq!(queue.push(2, always), Err(2));
        assert_eq!(queue.pop_if(|_| true), Some(1));
        assert_eq!(queue.push(3, always), Ok(()));
        assert_eq!(queue.push(4, |item| *item != 3), Ok(()), "what nobody wants any more makes room");
        assert_eq!(queue.pop_if(|_| true), Some(4));
    }

    #[tokio::test]
    async fn no_item_is_left_behind_between_two_takers() {
        let queue = Arc::new(Queue::new(1000));
        let taker = |queue: Arc<Queue<u32>>| async move {
            let mut sum = 0;
            loop {
                match queue.pop().await {
                    0 => return sum,
                    item => sum += item,
                }
            }
        };
        let takers = [tokio::spawn(taker(Arc::clone(&queue))), tokio::spawn(taker(Arc::clone(&queue)))];
        (1..=100).chain([0, 0]).for_each(|item| queue.push(item, |_| true).unwrap());
        let mut total = 0;
        for taker in takers {
            total += taker.await.unwrap();
        }
        assert_eq!(total, 5050);
    }
}

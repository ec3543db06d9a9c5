//! Tells the connections of one thread that the end of the server has begun.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// What all connections of a thread listen for. They look with every step they make, so that looking takes no lock and no memory.
#[derive(Default)]
pub(super) struct Farewell {
    is_said: Cell<bool>,
    listeners: RefCell<Slab<Waker>>,
}

impl Farewell {
    /// Tells everybody who listens, now or later.
    pub(super) fn say(&self) {
        self.is_said.set(true);
        // What is woken may stop listening at once.
        let mut listeners = self.listeners.take();
        listeners.drain().for_each(Waker::wake);
    }

    /// Ends when it has been said.
    pub(super) fn said(self: &Rc<Self>) -> Said {
        Said { farewell: Rc::clone(self), place: None }
    }

    fn listen(&self, place: Option<usize>, waker: &Waker) -> usize {
        let mut listeners = self.listeners.borrow_mut();
        match place.and_then(|place| Some((place, listeners.get_mut(place)?))) {
            Some((place, listener)) => {
                listener.clone_from(waker);
                place
            }
            None => listeners.insert(waker.clone()),
        }
    }
}

/// Listens for a farewell.
pub(super) struct Said {
    farewell: Rc<Farewell>,
    place: Option<usize>,
}

impl Future for Said {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.farewell.is_said.get() {
            return Poll::Ready(());
        }
        self.place = Some(self.farewell.listen(self.place, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            // It is gone already if the farewell has been said.
            self.farewell.listeners.borrow_mut().try_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::<Woken>::default();
        (Arc::clone(&woken), woken.into())
    }

    #[test]
    fn everybody_who_listens_is_told_once() {
        let farewell = Rc::<Farewell>::default();
        let ((first, first_waker), (second, second_waker)) = (waker(), waker());
        let (mut one, mut gone) = (pin!(farewell.said()), Box::pin(farewell.said()));
        assert!(gone.as_mut().poll(&mut Context::from_waker(&second_waker)).is_pending());
        for _ in 0..3 {
            assert!(one.as_mut().poll(&mut Context::from_waker(&first_waker)).is_pending());
        }
        drop(gone);
        farewell.say();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 0));
        assert!(one.as_mut().poll(&mut Context::from_waker(&first_waker)).is_ready());
        assert!(pin!(farewell.said()).poll(&mut Context::from_waker(&second_waker)).is_ready(), "who comes later is told at once");
    }

    #[test]
    fn the_one_is_told_who_listened_last() {
        let farewell = Rc::<Farewell>::default();
        let ((before, before_waker), (after, after_waker)) = (waker(), waker());
        let mut said = pin!(farewell.said());
        for waker in [&before_waker, &after_waker] {
            assert!(said.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        farewell.say();
        assert_eq!((before.0.load(Ordering::Relaxed), after.0.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn who_stops_listening_leaves_nothing_behind() {
        let farewell = Rc::<Farewell>::default();
        let (_, waker) = waker();
        for _ in 0..3 {
            assert!(pin!(farewell.said()).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert!(farewell.listeners.borrow().is_empty());
    }
}

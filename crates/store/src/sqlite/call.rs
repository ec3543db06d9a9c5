//! What callers hand to the database threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use crate::StoreError;

/// Work for a database thread. First [`run`](Operation::run), then, once its effect is certain, [`answer`](Operation::answer).
pub(super) trait Operation: Send {
    /// Does the work; whether its changes should be kept.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Tells the caller, if it still waits, what came of it. With `undone` the transaction failed, and nothing did.
    fn answer(self: Box<Self>, undone: Option<&Arc<rusqlite::Error>>);
}

/// An [`Operation`] made from a function, with the way back to its caller.
pub(super) struct Call<T, Work> {
    work: Option<Work>,
    outcome: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
    afterwards: Option<Arc<Notify>>,
}

impl<T, Work: FnOnce(&Connection) -> Result<T, StoreError>> Call<T, Work> {
    /// The call, and its answer to wait for.
    pub(super) fn new(work: Work) -> (Self, impl Future<Output = Result<T, StoreError>>) {
        let (caller, answer) = oneshot::channel();
        let answer = async { answer.await.unwrap_or_else(|_| Err(ended())) };
        (Self { work: Some(work), outcome: None, caller, afterwards: None }, answer)
    }

    /// Notifies `waiter` when the call has succeeded, even if its caller no longer waits.
    pub(super) fn then_notify(self, waiter: Arc<Notify>) -> Self {
        Self { afterwards: Some(waiter), ..self }
    }
}

impl<T: Send, Work: FnOnce(&Connection) -> Result<T, StoreError> + Send> Operation for Call<T, Work> {
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(connection))).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, undone: Option<&Arc<rusqlite::Error>>) {
        let outcome = match (self.outcome, undone) {
            (Some(Err(error)), _) => Err(error),
            (_, Some(error)) => Err(Arc::clone(error).into()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(ended()),
        };
        if outcome.is_ok()
            && let Some(waiter) = self.afterwards
        {
            waiter.notify_one();
        }
        // The caller may have gone; what it asked for is done all the same.
        let _ = self.caller.send(outcome);
    }
}

/// The error for every call after the threads have ended.
pub(super) fn ended() -> StoreError {
    StoreError::Unavailable("the store's database thread has ended".into())
}

fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StoreError::Unavailable(format!("a database operation panicked: {}", text.unwrap_or("no message")).into())
}

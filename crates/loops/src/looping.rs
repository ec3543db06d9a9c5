//! Who owns a loop.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use crate::Beat;

/// A loop that runs. Dropping it ends it where it waits next.
#[derive(Debug)]
pub struct Looping {
    beat: Beat,
    /// `None` once its end has been seen.
    task: Option<JoinHandle<()>>,
}

impl Looping {
    pub(crate) fn spawn(runtime: &Handle, beat: Beat, running: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { beat, task: Some(runtime.spawn(running)) }
    }

    /// Tells the loop to end by itself, and no longer misses it. One that fails from now on is not started again.
    pub fn tell_to_end(&self) {
        self.beat.tell_to_end();
    }

    /// Waits until the loop has ended by itself. May be dropped and called again.
    pub async fn ended(&mut self) {
        if let Some(task) = &mut self.task {
            report(task.await, &self.beat);
            self.task = None;
        }
    }

    /// Lets the loop go on until it ends by itself.
    pub fn detach(mut self) {
        self.task = None;
    }

    /// Whether the loop has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the loop where it waits, and returns when nothing of it runs any more.
    pub async fn stop(mut self) {
        self.beat.tell_to_end();
        self.task.iter().for_each(JoinHandle::abort);
        self.ended().await;
    }
}

fn report(ended: Result<(), JoinError>, beat: &Beat) {
    if let Err(error) = ended
        && !error.is_cancelled()
    {
        tracing::error!(name = beat.name(), %error, "what keeps a background loop running has failed");
    }
}

impl Drop for Looping {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            self.beat.tell_to_end();
            task.abort();
        }
    }
}

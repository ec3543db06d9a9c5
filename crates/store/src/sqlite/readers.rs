//! The threads that read, so that a status is never behind a flush to disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::call::{Operation, ended};
use crate::StoreError;

/// How many reads may wait. Callers wait for a place behind that.
const QUEUE_LENGTH: usize = 512;

type Queue = mpsc::Receiver<Box<dyn Operation>>;

/// Threads with a connection each. Two are enough for a status not to wait for a long list.
#[derive(Debug)]
pub(super) struct Readers {
    queue: Option<mpsc::Sender<Box<dyn Operation>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(connections: impl IntoIterator<Item = Connection>) -> Result<Self, StoreError> {
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH);
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |connection| {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new()
                .name("store reader".to_owned())
                .spawn(move || read_until_closed(&connection, &receiver))
                .map_err(|error| StoreError::Unavailable(error.into()))
        };
        let threads = connections.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    pub(super) async fn send(&self, operation: Box<dyn Operation>) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(operation).await.map_err(|_| ended())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reading thread of the store panicked");
            }
        }
    }
}

fn read_until_closed(connection: &Connection, queue: &Mutex<Queue>) {
    while let Some(mut operation) = next(queue) {
        operation.run(connection);
        operation.answer(None);
    }
}

/// Waits with the lock held: the other threads have nothing to do either.
fn next(queue: &Mutex<Queue>) -> Option<Box<dyn Operation>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

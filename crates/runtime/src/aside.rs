//! Calls that were sent ahead, while another one drags on: they are handed back, so that a worker that is free can take them.
//!
//! [`Aside`] is told of each call that begins. Only the first time that others wait behind one does it start a thread, which looks every few
//! milliseconds whether the same call still runs, and rests while nothing is sent ahead. It needs nothing of the interpreter, which may
//! hang in native code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::connection::Connection;
use crate::sys;

/// A call that has run for this long, and up to twice as long, keeps no others waiting.
const TICK: Duration = Duration::from_millis(5);
/// After so many looks without a call that was sent ahead, the thread rests.
const QUIET_TICKS: u32 = 200;
/// It reads frames and writes short ones.
const STACK_BYTES: usize = 256 << 10;

/// Hands back what waits behind a call that drags on.
pub(crate) struct Aside {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

#[derive(Default)]
struct Shared {
    /// How many calls have begun.
    begun: AtomicU64,
    /// Whether a call has begun with others behind it since the last look.
    is_wanted: AtomicBool,
    rests: AtomicBool,
}

impl Aside {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, shared: Arc::default(), thread: None }
    }

    /// A call begins now.
    pub(crate) fn begin(&mut self) {
        self.shared.begun.fetch_add(1, Ordering::SeqCst);
        if self.connection.has_more() {
            self.watch();
        }
    }

    fn watch(&mut self) {
        self.shared.is_wanted.store(true, Ordering::SeqCst);
        match &self.thread {
            Some(thread) if self.shared.rests.swap(false, Ordering::SeqCst) => thread.unpark(),
            Some(_) => {}
            None => self.start(),
        }
    }

    fn start(&mut self) {
        let (connection, shared) = (Arc::clone(&self.connection), Arc::clone(&self.shared));
        match sys::start_without_signals("aside", STACK_BYTES, move || look(&connection, &shared)) {
            Ok(handle) => self.thread = Some(handle.thread().clone()),
            // Tried again with the next call. Until then calls wait for those before them.
            Err(error) => eprintln!("no thread could be started that hands calls back: {error}"),
        }
    }
}

/// Looks again and again, until the connection is of no further use.
fn look(connection: &Connection, shared: &Shared) {
    let mut quiet = 0;
    loop {
        let begun = shared.begun.load(Ordering::SeqCst);
        std::thread::sleep(TICK);
        // The worker loop meets the same failure, and deals with it.
        if shared.begun.load(Ordering::SeqCst) == begun && connection.hand_back().is_err() {
            return;
        }
        quiet = if shared.is_wanted.swap(false, Ordering::SeqCst) { 0 } else { quiet + 1 };
        if quiet >= QUIET_TICKS {
            rest(shared);
            quiet = 0;
        }
    }
}

fn rest(shared: &Shared) {
    shared.rests.store(true, Ordering::SeqCst);
    // Whoever has not seen that it rests has said before that it is wanted.
    if shared.is_wanted.load(Ordering::SeqCst) {
        shared.rests.store(false, Ordering::SeqCst);
    }
    while shared.rests.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

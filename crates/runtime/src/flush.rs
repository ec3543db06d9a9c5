//! When what a script has printed is flushed.
//!
//! A job's text is flushed before its answer. An answer to requests that others wait behind need not wait for that: streams are
//! line-buffered, so all it could leave behind is the beginning of a line, and flushing costs a good part of a short call.

use std::time::{Duration, Instant};

use crate::backend::Backend;

/// How long text may stay behind while one call follows another.
const PATIENCE: Duration = Duration::from_millis(100);

/// Flushes a backend now, or leaves that for later.
#[derive(Debug)]
pub(crate) struct Flush {
    last: Instant,
    is_owed: bool,
}

impl Flush {
    /// Nothing is owed yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, is_owed: false }
    }

    /// Flushes before an answer to requests, unless others wait behind it and it was last done less than 100 milliseconds ago.
    pub(crate) fn between_calls(&mut self, backend: &mut impl Backend, do_others_wait: bool, now: Instant) {
        if do_others_wait && now.duration_since(self.last) < PATIENCE {
            self.is_owed = true;
        } else {
            self.at_once(backend, now);
        }
    }

    /// Flushes.
    pub(crate) fn at_once(&mut self, backend: &mut impl Backend, now: Instant) {
        backend.flush();
        *self = Self::new(now);
    }

    /// Whether it was left for later. Whoever then finds no call to go on with has to do it.
    pub(crate) fn is_owed(&self) -> bool {
        self.is_owed
    }
}

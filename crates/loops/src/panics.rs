//! Panics in the log: one record each, instead of raw text on standard error.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// From now on, a panic in this process is counted and told in the log, with its thread and place.
///
/// Its message is told only if it is a literal: one that was put together may hold what a request or a script has said.
pub fn log_all() {
    std::panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string);
        tracing::error!(
            thread = thread.name(),
            place,
            reason = reason(panic),
            "a panic: a mistake in this program; please report it"
        );
    }));
}

/// How many there have been since [`log_all`].
#[must_use]
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn reason(panic: &PanicHookInfo<'_>) -> &'static str {
    panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("not told here: it may hold what others have sent")
}

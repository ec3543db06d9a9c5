//! What Ctrl-C does while a command waits.

use std::thread;

use anyhow::Context;

/// The conventional exit code of a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// From now on, Ctrl-C calls `goodbye` and ends the process.
///
/// The HTTP client blocks, so a thread of its own waits for the signal, and ends the process from there.
pub(super) fn on_interrupt(goodbye: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot listen for Ctrl-C")?;
    // Registered before the thread starts, so that no Ctrl-C falls in between.
    let guard = runtime.enter();
    let mut interrupt =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(interrupt.recv());
        goodbye();
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

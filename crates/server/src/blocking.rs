//! Work that blocks, kept off the runtime's threads.

use std::io;

use tokio::sync::oneshot;

/// Runs what blocks on a thread of its own, called `name`. One of the runtime's would hold up the end of the process until the other
/// side answers.
///
/// # Errors
///
/// An [`io::Error`] if the system refuses another thread, or the work panics.
pub(crate) async fn on_thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let run = move || {
        // Nobody waits any more if the server has ended.
        let _ = done.send(work());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    result.await.map_err(io::Error::other)
}

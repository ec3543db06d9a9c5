//! Takes connections, and gives each to the thread that has the fewest.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The pause after the system has refused to hand over a connection: most likely no more files can be opened, and trying again at once would
/// do nothing but keep a core busy.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection on its way to its thread. It counts as open until the token is dropped.
pub(super) type Arrival = (TcpStream, TaskTrackerToken);

/// The way to one thread.
pub(super) struct Lane {
    pub(super) arrivals: UnboundedSender<Arrival>,
    /// The connections on this thread, and those on their way to it.
    pub(super) open: TaskTracker,
}

/// Takes connections until it is stopped.
pub(super) async fn take(listener: Arc<std::net::TcpListener>, lanes: Arc<[Lane]>, beat: Beat) {
    let listener = match listener.try_clone().and_then(TcpListener::from_std) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "connections cannot be waited for"),
    };
    loop {
        beat.idle();
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => give(&lanes, stream),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection cannot be taken");
                beat.rest(PAUSE).await;
            }
        }
    }
}

fn give(lanes: &[Lane], stream: TcpStream) {
    if let Some(lane) = lanes.iter().min_by_key(|lane| lane.open.len()) {
        // A thread that is no more ends the server.
        let _ = lane.arrivals.send((stream, lane.open.token()));
    }
}

/// Whether only the connection has failed that would have come next.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

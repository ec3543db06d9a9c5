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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn lane() -> (Lane, UnboundedReceiver<Arrival>) {
        let (arrivals, arriving) = unbounded_channel();
        (Lane { arrivals, open: TaskTracker::new() }, arriving)
    }

    #[test]
    fn a_connection_goes_to_the_thread_that_has_the_fewest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((first, mut to_first), (second, mut to_second)) = (lane(), lane());
        let lanes = [first, second];
        let arrive = || {
            let _client = TcpStream::connect(address).unwrap();
            give(&lanes, listener.accept().unwrap().0);
        };
        (0..4).for_each(|_| arrive());
        let both = |lanes: &[Lane]| [lanes[0].open.len(), lanes[1].open.len()];
        assert_eq!(both(&lanes), [2, 2]);
        let (_stream, open) = to_second.try_recv().unwrap();
        drop(open);
        assert_eq!(both(&lanes), [2, 1]);
        arrive();
        assert_eq!(both(&lanes), [2, 2]);
        assert_eq!((to_first.len(), to_second.len()), (2, 2));
        assert!(to_first.try_recv().is_ok());
    }

    #[test]
    fn only_what_one_connection_has_failed_with_is_passed_over() {
        let of_one = |kind: io::ErrorKind| is_of_one_connection(&kind.into());
        assert!(of_one(io::ErrorKind::ConnectionAborted) && of_one(io::ErrorKind::ConnectionReset));
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())));
    }
}

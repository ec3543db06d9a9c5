//! Listens, serves, and comes to an end.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::web;
use dunnage_loops::Looping;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::arrivals::{self, Arrival, Lane};
use super::event_loops::{EventLoops, Work};
use super::front::{self, End};
use crate::app::App;

/// Requests in flight get so long to end when the server does, beyond what `--timeout` allows them anyhow.
const GRACE: Duration = Duration::from_secs(5);
/// For so long a server that ends still answers on connections that are kept open, each once: what it says of the end has to reach a client
/// before the client sends its next request, which would be lost if the connection were closed meanwhile.
const LAST_CALL: Duration = Duration::from_millis(250);
/// How many connections may wait to be taken. The system takes no more than it allows itself.
const BACKLOG: u32 = 1024;

/// A server that listens.
pub(crate) struct Server {
    address: SocketAddr,
    event_loops: EventLoops,
    lanes: Arc<[Lane]>,
    arrivals: Looping,
    is_closing: Arc<AtomicBool>,
    ending: watch::Sender<bool>,
}

impl Server {
    /// Begins to listen, and to answer on `event_loops`.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub(crate) fn start(app: &web::Data<App>, mut event_loops: EventLoops) -> io::Result<Self> {
        let http = &app.config.http;
        let (listener, address) = listener(SocketAddr::new(http.host, http.port))?;
        let tls = app.access.tls().map(|mut config| {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let (is_closing, ending) = (Arc::<AtomicBool>::default(), watch::Sender::new(false));
        let end = End { is_closing: Arc::clone(&is_closing), has_begun: ending.subscribe() };
        let (lanes, works): (Vec<_>, Vec<_>) =
            event_loops.handles().iter().map(|_| lane(app.clone(), tls.clone(), end.clone())).unzip();
        event_loops.give(works);
        let (lanes, listener): (Arc<[Lane]>, _) = (lanes.into(), Arc::new(listener));
        let taken_by = Arc::clone(&lanes);
        let arrivals = app.loops.start("arrivals", move |beat| arrivals::take(Arc::clone(&listener), Arc::clone(&taken_by), beat));
        Ok(Self { address, event_loops, lanes, arrivals, is_closing, ending })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it cannot go on.
    pub(crate) async fn failed(&mut self) {
        self.event_loops.one_has_ended().await;
    }

    /// Takes no more connections, and waits for those that are open: each is closed behind the next answer, or when no request has come for a
    /// moment. What goes on beyond `timeout` is not waited for.
    pub(crate) async fn stop(self, timeout: Duration) -> EventLoops {
        self.arrivals.stop().await;
        self.is_closing.store(true, Ordering::Relaxed);
        // Where all have closed by then, there is nothing more to do.
        let _ = tokio::time::timeout(LAST_CALL, all_closed(&self.lanes)).await;
        self.ending.send_replace(true);
        let closed = all_closed(&self.lanes);
        if tokio::time::timeout(timeout.saturating_add(GRACE), closed).await.is_err() {
            let open: usize = self.lanes.iter().map(|lane| lane.open.len()).sum();
            tracing::warn!(open, "connections are closed in the middle of what they were about");
        }
        self.event_loops
    }
}

/// Waits until no connection is open any more.
async fn all_closed(lanes: &[Lane]) {
    for lane in lanes {
        lane.open.close();
        lane.open.wait().await;
    }
}

/// The way to a thread, and what is done there.
fn lane(app: web::Data<App>, tls: Option<TlsAcceptor>, end: End) -> (Lane, Work) {
    let (arrivals, arriving) = mpsc::unbounded_channel();
    let work: Work = Box::new(move || Box::pin(serve(app, tls, end, arriving)));
    (Lane { arrivals, open: TaskTracker::new() }, work)
}

/// Serves the connections of one thread, for as long as any may come.
async fn serve(app: web::Data<App>, tls: Option<TlsAcceptor>, end: End, mut arriving: mpsc::UnboundedReceiver<Arrival>) {
    let Ok(front) = front::open(app, tls, end).await else { return tracing::error!("the routes cannot be set up") };
    let front = Rc::new(front);
    let serving = async {
        while let Some((stream, open)) = arriving.recv().await {
            match TcpStream::from_std(stream) {
                Ok(stream) => drop(tokio::task::spawn_local(Rc::clone(&front).serve(stream, open))),
                Err(error) => tracing::error!(%error, "a connection cannot be waited for"),
            }
        }
    };
    tokio::join!(serving, front.say_farewell());
    // No more connections come; those that are open are answered, and workers are fed.
    pending().await
}

fn listener(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Or a server that ends could not be followed by the next at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

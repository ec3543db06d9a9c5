//! What happens to a connection first: it finds a place, or is told that there is none, and is encrypted if it is to be.

use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpServiceBuilder, KeepAlive};
use actix_service::IntoServiceFactory;
use actix_web::App as HttpApp;
use actix_web::dev::{AppConfig, Service, ServiceFactory, fn_factory};
use actix_web::web;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::{Admitted, Place};
use super::connection::Connection;
use super::ending::{Ending, LINGER};
use super::exchange::{Exchange, Exchanges};
use super::expectation::Expectation;
use super::farewell::Farewell;
use super::refusal;
use super::timer::Timer;
use super::traffic::Cut;
use super::transport::Transport;
use crate::app::App;
use crate::{middleware, routes};

/// A handshake of TLS may take so long, or `--head-timeout` if that is shorter.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the connections of one thread.
pub(super) struct Front<H> {
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    end: End,
    farewell: Rc<Farewell>,
    http: H,
}

/// What a thread is told of the end of the server.
#[derive(Clone)]
pub(super) struct End {
    /// Every answer is the last of its connection.
    pub(super) is_closing: Arc<AtomicBool>,
    /// Connections are closed where nothing is being answered.
    pub(super) has_begun: watch::Receiver<bool>,
}

/// Sets up the routes of one thread, and what stands before them.
pub(super) async fn open(
    app: web::Data<App>,
    tls: Option<TlsAcceptor>,
    end: End,
) -> Result<Front<impl Service<(Connection, Option<SocketAddr>), Response = (), Error = DispatchError>>, ()> {
    let routes =
        HttpApp::new().app_data(app.clone()).wrap(actix_web::middleware::from_fn(middleware::around)).configure(routes::configure);
    let routes = routes.into_factory().new_service(AppConfig::default()).await?;
    let requests = Rc::new(Exchanges::new(routes));
    let expectation = Rc::new(Expectation::new(Rc::clone(&requests)));
    let keep_alive = app.config.http.connections.keep_alive;
    let farewell = Rc::<Farewell>::default();
    let heard = Rc::clone(&farewell);
    let http = HttpServiceBuilder::default()
        // The connection keeps both times itself, with one timer: that of quiet also where a part of the next request has come, that of heads for
        // each request.
        .keep_alive(if keep_alive.is_zero() { KeepAlive::Disabled } else { KeepAlive::Os })
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(LINGER)
        // A client that hangs up while it is answered is gone: what it listens to must not stay open until the next write fails.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || heard.said())
        .on_connect_ext(|connection: &Connection, data| {
            data.insert(connection.exchange());
        })
        .expect(fn_factory(move || ready(Ok::<_, Infallible>(Rc::clone(&expectation)))))
        .h1(fn_factory(move || ready(Ok::<_, Infallible>(Rc::clone(&requests)))))
        .new_service(())
        .await?;
    Ok(Front { app: app.into_inner(), tls, end, farewell, http })
}

impl<H> Front<H>
where
    H: Service<(Connection, Option<SocketAddr>), Response = (), Error = DispatchError>,
{
    /// Serves a connection to its end, with which the token is dropped.
    pub(super) fn serve(self: Rc<Self>, stream: TcpStream, open: TaskTrackerToken) -> impl Future<Output = ()> {
        // Apart, and moved into what follows, so that neither takes up room later.
        let opening = Box::pin(Rc::clone(&self).open(stream));
        async move {
            let _open = open;
            let Some(opened) = opening.await else { return };
            if let Err(error) = self.http.call(opened).await {
                tracing::trace!(%error, "a connection ended early");
            }
        }
    }

    /// Tells all connections of the thread, when the end of the server has begun.
    pub(super) async fn say_farewell(&self) {
        begun(self.end.has_begun.clone()).await;
        self.farewell.say();
    }

    /// A connection that may ask something, and who is at its other end; `None` if it has been told why not, and is over.
    async fn open(self: Rc<Self>, stream: TcpStream) -> Option<(Connection, Option<SocketAddr>)> {
        let (app, opened, peer) = (Arc::clone(&self.app), Instant::now(), stream.peer_addr().ok());
        let (exchange, place) = match app.admission.admit() {
            Admitted::Fully(place) => (Exchange::until(Arc::clone(&self.end.is_closing)), place),
            Admitted::ForProbes(place) => (Exchange::for_probes(), place),
            Admitted::Refused(place) if self.tls.is_none() => {
                refuse(app, stream, place).await;
                return None;
            }
            Admitted::Refused(_) | Admitted::Ignored => {
                app.metrics.traffic().cut(Cut::NoRoom);
                return None;
            }
        };
        let transport = tokio::select! {
            transport = handshake(stream, self.tls.clone(), &app) => transport,
            () = begun(self.end.has_begun.clone()) => return None,
        };
        if transport.is_err() {
            app.metrics.traffic().cut(Cut::Handshake);
        }
        poll_fn(|cx| self.http.poll_ready(cx))
            .await
            .inspect_err(|error| tracing::error!(%error, "the routes are not ready"))
            .ok()?;
        Some((Connection::new(transport.ok()?, opened, exchange, app, place), peer))
    }
}

/// Ends when the end of the server has begun.
async fn begun(mut has_begun: watch::Receiver<bool>) {
    // Who tells it outlives all connections.
    if has_begun.wait_for(|has_begun| *has_begun).await.is_err() {
        pending::<()>().await;
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>, app: &App) -> io::Result<Transport> {
    // Answers are written whole, or in pieces that must not wait for each other.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Transport::Plain(stream)) };
    let patience = HANDSHAKE_PATIENCE.min(app.config.http.connections.head_timeout);
    // Apart, so that connections that are not encrypted, and those that have been, take up no room for it.
    let accepted = Box::pin(tls.accept(stream));
    let stream = tokio::time::timeout(patience, accepted).await??;
    Ok(Transport::Encrypted(Box::new(stream)))
}

/// Tells a client that there is no room, without waiting for what it wants.
async fn refuse(app: Arc<App>, stream: TcpStream, _place: Place) {
    app.metrics.traffic().cut(Cut::NoRoom);
    let answer = refusal::answer(&refusal::no_room(app.admission.max()), &app);
    let (mut transport, mut timer, mut ending) = (Transport::Plain(stream), Timer::default(), Ending::with(answer));
    poll_fn(|cx| ending.poll(&mut transport, &mut timer, cx)).await;
}

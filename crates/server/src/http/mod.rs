//! Connections: which are taken, how long they may be quiet, and what is said on those that never come to a request.
//!
//! [`listen`] puts the server together. Each connection passes [`front`], which asks [`mod@admission`] for room and does the handshake of
//! TLS, and becomes a [`connection::Connection`], a stream that keeps the clocks. The HTTP library reads requests from it and calls
//! [`exchange`], which tells the connection whose turn it is and hands the request to the routes. Refusals of what the library cannot
//! read are written by [`refusal`], in our words. [`awaited`] keeps the time of bodies, [`pace`] knows how much is left, [`target`] looks
//! at what was asked for. `docs/http.md` is this for operators.

pub(crate) mod admission;
pub(crate) mod awaited;
mod connection;
mod descriptors;
mod ending;
pub(crate) mod exchange;
mod expectation;
mod front;
mod head;
mod pace;
mod refusal;
pub(crate) mod target;
mod timer;
pub(crate) mod traffic;
mod transport;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_server::Server;
use actix_web::dev::fn_factory;
use actix_web::web;
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;

use self::admission::Admission;
use crate::app::App;
use crate::config::ConnectionConfig;
use crate::threads;

/// Requests in flight get so long to end when the server does, in seconds, beyond what `--timeout` allows them anyhow.
const GRACE_SECS: u64 = 5;
/// How many connections may wait to be taken. The system takes no more than it allows itself.
const BACKLOG: u32 = 1024;
/// No thread has a limit of connections of its own: `--max-connections` is for all of them.
const WITHOUT_LIMIT: usize = u32::MAX as usize;

/// Room for as many connections as are wanted, or as many as the system allows this process.
pub(crate) fn admission(config: &ConnectionConfig) -> Admission {
    Admission::new(descriptors::room_for(config.max))
}

/// Begins to listen. The server answers as soon as it is polled, and ends as [`Server`] says.
///
/// # Errors
///
/// When the address cannot be listened on.
pub(crate) fn listen(app: &web::Data<App>) -> io::Result<(Server, SocketAddr)> {
    let http = &app.config.http;
    let (listener, address) = listener(SocketAddr::new(http.host, http.port))?;
    let tls = app.access.tls().map(|mut config| {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    let builder = Server::build()
        .workers(threads::for_http(http))
        .backlog(BACKLOG)
        .max_concurrent_connections(WITHOUT_LIMIT)
        .shutdown_timeout(app.config.workers.timeout.as_secs() + GRACE_SECS)
        .disable_signals();
    let ending = builder.graceful_shutdown_signal();
    let app = app.clone();
    let open = move || {
        let (app, tls, ending) = (app.clone(), tls.clone(), ending.clone());
        fn_factory(move || front::open(app.clone(), tls.clone(), ending.clone()))
    };
    let builder = builder.listen("http", listener, open)?;
    Ok((builder.run(), address))
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

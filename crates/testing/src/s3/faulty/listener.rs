//! Where a faulty server listens, and its threads.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Shared;
use super::connection::serve;
use crate::port;

/// How many ports are tried, should others take the free one that was found.
const BINDS: usize = 10;

/// Accepts connections on threads of its own until it is dropped.
pub(super) struct Listener {
    address: SocketAddr,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// To listen or not to listen; answered when it is so.
struct Command {
    listens: bool,
    done: blocking::Sender<()>,
}

impl Listener {
    /// On a port that the kernel does not give to clients, so that it stays free while nobody listens.
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let mut bound = std::iter::repeat_with(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port::free()))).take(BINDS);
        let listener = bound.find_map(Result::ok).expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let (commands, received) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime can be built").block_on(accept(listener, received, shared));
        });
        Self { address, commands: Some(commands), thread: Some(thread) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens from now on, or no longer, and returns when that is so. Connections are reset when it no longer listens.
    pub(super) fn set(&self, listens: bool) {
        let (done, is_done) = blocking::channel();
        let commands = self.commands.as_ref().expect("there are commands until the end");
        commands.send(Command { listens, done }).expect("the server runs");
        is_done.recv().expect("the server can listen on its port");
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.commands = None;
        let ended = self.thread.take().map(JoinHandle::join);
        // A test that fails already shall say why, and not this.
        if !std::thread::panicking() {
            ended.transpose().expect("the server has not panicked");
        }
    }
}

async fn accept(listener: TcpListener, mut commands: mpsc::UnboundedReceiver<Command>, shared: Arc<Shared>) {
    let address = listener.local_addr().expect("a listener has an address");
    let mut listener = Some(asynchronous(listener));
    let mut connections = JoinSet::new();
    let epoch = watch::Sender::new(0);
    loop {
        tokio::select! {
            accepted = next(listener.as_ref()) => {
                // A client may be gone before it is accepted.
                if let Ok(stream) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&shared), epoch.subscribe()));
                }
            }
            Some(ended) = connections.join_next() => ended.expect("a connection is served without a panic"),
            command = commands.recv() => {
                if command.as_ref().is_none_or(|command| !command.listens) {
                    listener = None;
                    reset(&epoch, &mut connections).await;
                } else if listener.is_none() {
                    listener = Some(asynchronous(TcpListener::bind(address).expect("the port is still free")));
                }
                let Some(command) = command else { return };
                // Whoever has asked may have given up.
                let _ = command.done.send(());
            }
        }
    }
}

async fn next(listener: Option<&tokio::net::TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Has all connections end, and waits for that.
async fn reset(epoch: &watch::Sender<u64>, connections: &mut JoinSet<()>) {
    epoch.send_modify(|epoch| *epoch += 1);
    while let Some(ended) = connections.join_next().await {
        ended.expect("a connection is served without a panic");
    }
}

fn asynchronous(listener: TcpListener) -> tokio::net::TcpListener {
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking")
}

//! A TCP proxy that a test can make misbehave while it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const PIECE_BYTES: usize = 16 << 10;

/// What happens to the bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Pass,
    /// Each piece passes after this time.
    Delay(Duration),
    /// As many pass, counted for each connection from when the mode was set; then the connection ends, in good order.
    CutAfter(u64),
    /// The connection is reset, as soon as the mode is set.
    Reset,
    /// Nothing passes, not even the news that the other side has closed: a network that is gone. What was sent meanwhile passes
    /// later, if there is a later.
    Blackhole,
    /// Whatever comes is lost: the side that sends believes it has arrived. A connection that has lost something is reset when
    /// the mode changes.
    Swallow,
}

/// The modes of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Of what the client says.
    pub to_server: Mode,
    /// Of what the server answers.
    pub to_client: Mode,
}

impl Modes {
    /// Everything passes.
    pub const PASS: Self = Self::both(Mode::Pass);

    /// The same for both directions.
    #[must_use]
    pub const fn both(mode: Mode) -> Self {
        Self { to_server: mode, to_client: mode }
    }

    fn of(self, direction: Direction) -> Mode {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

/// A proxy on a free port of the loopback. Dropping it resets its connections.
pub struct Proxy {
    address: SocketAddr,
    settings: Option<watch::Sender<Settings>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    modes: Modes,
    /// Connections of an earlier epoch are reset.
    epoch: u64,
}

impl Proxy {
    /// Listens, and passes connections on to `upstream`. Where that refuses, the client is reset.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let (settings, watched) = watch::channel(Settings { modes: Modes::PASS, epoch: 0 });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            runtime.block_on(accept(listener, upstream, watched));
        });
        Self { address, settings: Some(settings), thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the modes of all connections, those that there are and those to come.
    pub fn set(&self, modes: Modes) {
        self.change(|settings| settings.modes = modes);
    }

    /// Resets the connections that there are; the modes stay.
    pub fn reset_all(&self) {
        self.change(|settings| settings.epoch += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        self.settings.as_ref().expect("it is there until the proxy is dropped").send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.settings.take());
        if let Some(thread) = self.thread.take() {
            // If it has panicked, the test has failed for lack of a proxy.
            let _ = thread.join();
        }
    }
}

/// Accepts connections until the proxy is dropped.
async fn accept(listener: std::net::TcpListener, upstream: SocketAddr, settings: watch::Receiver<Settings>) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    let mut dropped = settings.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A client may be gone before it is accepted.
                if let Ok((client, _)) = accepted {
                    connections.spawn(pass_on(client, upstream, settings.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
            () = end(&mut dropped) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn end(settings: &mut watch::Receiver<Settings>) {
    while settings.changed().await.is_ok() {}
}

/// Serves one connection to its end. Both streams are closed in good order if both sides closed them so, or else reset.
async fn pass_on(mut client: TcpStream, upstream: SocketAddr, mut settings: watch::Receiver<Settings>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        reset(&client);
        return;
    };
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let epoch = settings.borrow_and_update().epoch;
        let forth = pump(from_client, to_server, Direction::ToServer, settings.clone());
        let back = pump(from_server, to_client, Direction::ToClient, settings.clone());
        tokio::select! {
            both = async { tokio::try_join!(forth, back) } => both.map(drop),
            _ = settings.wait_for(|settings| settings.epoch != epoch) => Err(Fault::Reset),
        }
    };
    if matches!(ended, Err(Fault::Reset)) {
        reset(&client);
        reset(&server);
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

/// Why a connection ends otherwise than by both sides closing it.
enum Fault {
    Cut,
    Reset,
}

impl From<io::Error> for Fault {
    /// One side was reset, or the proxy itself failed; the other shall hear of it.
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// Passes on what one side says, as the mode has it, until it has no more to say.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut settings: watch::Receiver<Settings>,
) -> Result<(), Fault> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut passed, mut has_lost) = (0, false);
    let mut mode = settings.borrow_and_update().modes.of(direction);
    loop {
        let is_open = !matches!(mode, Mode::Blackhole | Mode::Reset);
        if mode == Mode::Reset {
            return Err(Fault::Reset);
        }
        let read = tokio::select! {
            read = from.read(&mut piece), if is_open => read?,
            changed = settings.changed() => {
                changed.map_err(|_| Fault::Reset)?;
                let next = settings.borrow_and_update().modes.of(direction);
                if next != mode && has_lost {
                    return Err(Fault::Reset);
                }
                (mode, passed) = (next, if next == mode { passed } else { 0 });
                continue;
            }
        };
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        match mode {
            Mode::Swallow => has_lost = true,
            Mode::CutAfter(limit) => {
                let left = usize::try_from(limit - passed).unwrap_or(usize::MAX);
                to.write_all(&piece[..read.min(left)]).await?;
                passed += read as u64;
                if passed >= limit {
                    return Err(Fault::Cut);
                }
            }
            Mode::Delay(by) => {
                tokio::time::sleep(by).await;
                to.write_all(&piece[..read]).await?;
            }
            Mode::Pass | Mode::Blackhole | Mode::Reset => to.write_all(&piece[..read]).await?,
        }
    }
}

/// Has the kernel answer whatever the peer says next with a reset, when the stream is dropped.
fn reset(stream: &TcpStream) {
    // A stream that is reset already needs no more.
    let _ = stream.set_zero_linger();
}

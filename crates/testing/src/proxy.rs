//! A TCP proxy that a test can make misbehave while it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
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
    settings: Shared,
    thread: Option<JoinHandle<()>>,
}

type Shared = Arc<watch::Sender<Settings>>;

#[derive(Debug, Clone, Copy)]
struct Settings {
    modes: Modes,
    trap: Option<Trap>,
    /// Connections of an earlier epoch are reset.
    epoch: u64,
    is_dropped: bool,
}

/// The modes from when a client says something.
#[derive(Debug, Clone, Copy)]
struct Trap {
    text: &'static str,
    modes: Modes,
}

impl Settings {
    const FIRST: Self = Self { modes: Modes::PASS, trap: None, epoch: 0, is_dropped: false };

    /// Whether the trap springs at what a client says.
    fn spring(&mut self, said: &[u8]) -> bool {
        let sprung = self.trap.take_if(|trap| said.windows(trap.text.len()).any(|window| window == trap.text.as_bytes()));
        self.modes = sprung.map_or(self.modes, |trap| trap.modes);
        sprung.is_some()
    }
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
        let settings = Arc::new(watch::Sender::new(Settings::FIRST));
        let shared = Arc::clone(&settings);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            runtime.block_on(accept(listener, upstream, &shared));
        });
        Self { address, settings, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the modes of all connections, those that there are and those to come.
    pub fn set(&self, modes: Modes) {
        self.settings.send_modify(|settings| (settings.modes, settings.trap) = (modes, None));
    }

    /// Sets them, but only when a client next says `text`, and then before that passes. It must come in one piece, as a short
    /// text in a statement does.
    pub fn set_when_told(&self, text: &'static str, modes: Modes) {
        self.settings.send_modify(|settings| settings.trap = Some(Trap { text, modes }));
    }

    /// Resets the connections that there are; the modes stay.
    pub fn reset_all(&self) {
        self.settings.send_modify(|settings| settings.epoch += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.settings.send_modify(|settings| settings.is_dropped = true);
        if let Some(thread) = self.thread.take() {
            // If it has panicked, the test has failed for lack of a proxy.
            let _ = thread.join();
        }
    }
}

/// Accepts connections until the proxy is dropped.
async fn accept(listener: std::net::TcpListener, upstream: SocketAddr, settings: &Shared) {
    let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
    let mut watched = settings.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A client may be gone before it is accepted.
                if let Ok((client, _)) = accepted {
                    connections.spawn(pass_on(client, upstream, Arc::clone(settings)));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = watched.wait_for(|settings| settings.is_dropped) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end. Both streams are closed in good order if both sides closed them so, or else reset.
async fn pass_on(mut client: TcpStream, upstream: SocketAddr, settings: Shared) {
    let mut watched = settings.subscribe();
    let epoch = watched.borrow().epoch;
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        reset(&client);
        return;
    };
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let forth = Pump::new(from_client, to_server, Direction::ToServer, &settings).run();
        let back = Pump::new(from_server, to_client, Direction::ToClient, &settings).run();
        tokio::select! {
            both = async { tokio::try_join!(forth, back) } => both.map(drop),
            _ = watched.wait_for(|settings| settings.epoch != epoch || settings.is_dropped) => Err(Fault::Reset),
        }
    };
    if matches!(ended, Err(Fault::Reset)) {
        reset(&client);
        reset(&server);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// One direction of a connection.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    direction: Direction,
    settings: &'a Shared,
    watched: watch::Receiver<Settings>,
    mode: Mode,
    /// How many bytes have passed since the mode was set.
    passed: u64,
    has_lost: bool,
}

impl<'a> Pump<'a> {
    fn new(from: ReadHalf<'a>, to: WriteHalf<'a>, direction: Direction, settings: &'a Shared) -> Self {
        let mut watched = settings.subscribe();
        let mode = watched.borrow_and_update().modes.of(direction);
        Self { from, to, direction, settings, watched, mode, passed: 0, has_lost: false }
    }

    /// Passes on what one side says, as the mode has it, until it has no more to say.
    async fn run(mut self) -> Result<(), Fault> {
        let mut piece = vec![0; PIECE_BYTES];
        self.follow()?;
        loop {
            self.wait_while_closed().await?;
            let read = tokio::select! {
                read = self.from.read(&mut piece) => read?,
                () = changed(&mut self.watched) => {
                    self.follow()?;
                    continue;
                }
            };
            if read == 0 {
                self.to.shutdown().await?;
                return Ok(());
            }
            let said = &piece[..read];
            if self.direction == Direction::ToServer {
                self.settings.send_if_modified(|settings| settings.spring(said));
            }
            self.follow()?;
            self.wait_while_closed().await?;
            self.deliver(said).await?;
        }
    }

    async fn wait_while_closed(&mut self) -> Result<(), Fault> {
        while self.mode == Mode::Blackhole {
            changed(&mut self.watched).await;
            self.follow()?;
        }
        Ok(())
    }

    /// Takes up the mode that is set now.
    fn follow(&mut self) -> Result<(), Fault> {
        let next = self.watched.borrow_and_update().modes.of(self.direction);
        if next != self.mode {
            if self.has_lost {
                return Err(Fault::Reset);
            }
            (self.mode, self.passed) = (next, 0);
        }
        if self.mode == Mode::Reset { Err(Fault::Reset) } else { Ok(()) }
    }

    async fn deliver(&mut self, said: &[u8]) -> Result<(), Fault> {
        match self.mode {
            Mode::Swallow => {
                self.has_lost = true;
                return Ok(());
            }
            Mode::CutAfter(limit) => {
                let left = usize::try_from(limit - self.passed).unwrap_or(usize::MAX);
                self.to.write_all(&said[..said.len().min(left)]).await?;
                self.passed += said.len() as u64;
                return if self.passed < limit { Ok(()) } else { Err(Fault::Cut) };
            }
            Mode::Delay(by) => tokio::time::sleep(by).await,
            Mode::Pass | Mode::Blackhole | Mode::Reset => {}
        }
        Ok(self.to.write_all(said).await?)
    }
}

/// Waits for other settings. The one who sets them is there as long as the connection is.
async fn changed(watched: &mut watch::Receiver<Settings>) {
    let _ = watched.changed().await;
}

/// Has the kernel answer whatever the peer says next with a reset, when the stream is dropped.
fn reset(stream: &TcpStream) {
    // A stream that is reset already needs no more.
    let _ = stream.set_zero_linger();
}

//! A server of S3 that answers what a test tells it to, byte by byte: for faults that no real one has when they are wanted.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many came before it.
    pub index: usize,
    head: String,
}

impl Request {
    /// The method and the address.
    #[must_use]
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1")
    }

    /// A header's value; its name is given in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first byte that is asked for, and the one after the last.
    #[must_use]
    pub fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
    }
}

/// How an answer's body ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// As it should.
    Whole,
    /// After so many bytes the connection is closed.
    Fin(usize),
    /// After so many bytes the connection is reset.
    Rst(usize),
    /// After so many bytes nothing follows, and the connection stays.
    Silence(usize),
    /// After so many bytes one more follows every 50 ms.
    Drip(usize),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, less those that are about the connection.
    pub headers: Vec<(&'static str, String)>,
    /// Its whole body.
    pub body: Vec<u8>,
    /// How much of it is sent.
    pub end: End,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), end: End::Whole }
    }

    /// An error as S3 writes it.
    #[must_use]
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is</Message></Error>").into_bytes();
        Self { body, ..Self::status(status).with("content-type", "application/xml") }
    }

    /// An object, or the range of it that is asked for, on the conditions that are named.
    #[must_use]
    pub fn object(request: &Request, bytes: &[u8], etag: &str) -> Self {
        if request.header("if-none-match") == Some(etag) {
            return Self::status(304).with("etag", etag);
        }
        if request.header("if-match").is_some_and(|wanted| wanted != etag) {
            return Self::error(412, "PreconditionFailed");
        }
        match request.range() {
            None => Self { body: bytes.to_vec(), ..Self::status(200).with("etag", etag) },
            Some((start, end)) => {
                let range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
                Self { body: bytes[start..end].to_vec(), ..Self::status(206).with("etag", etag).with("content-range", &range) }
            }
        }
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Ending otherwise.
    #[must_use]
    pub fn ending(self, end: End) -> Self {
        Self { end, ..self }
    }
}

/// A server on a free port of the loopback. Dropping it closes its connections.
pub struct Scripted {
    /// Its URL.
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Answers every request as `script` says, one a connection.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    #[must_use]
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let endpoint = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let (seen, stop) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(Notify::new()));
        let (requests, stopped, script) = (Arc::clone(&seen), Arc::clone(&stop), Arc::new(script));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, requests, script) => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Self { endpoint, seen, stop, thread: Some(thread) }
    }

    /// All requests up to now.
    ///
    /// # Panics
    ///
    /// When the script has panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("the script does not panic").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    seen: Arc<Mutex<Vec<Request>>>,
    script: Arc<impl Fn(&Request) -> Answer + Send + Sync + 'static>,
) {
    let listener = TcpListener::from_std(listener).expect("a runtime takes a listener");
    loop {
        let (socket, _) = listener.accept().await.expect("connections can be accepted");
        tokio::spawn(serve(socket, Arc::clone(&seen), Arc::clone(&script)));
    }
}

async fn serve(mut socket: TcpStream, seen: Arc<Mutex<Vec<Request>>>, script: Arc<impl Fn(&Request) -> Answer>) {
    let Some(head) = read_head(&mut socket).await else { return };
    let request = {
        let mut seen = seen.lock().expect("nobody panics under the lock");
        let request = Request { index: seen.len(), head };
        seen.push(request.clone());
        request
    };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if tokio::io::copy(&mut (&mut socket).take(length), &mut tokio::io::sink()).await.is_err() {
        return;
    }
    // A client that has gone is what some tests are about.
    drop(write(socket, script(&request)).await);
}

async fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn write(mut socket: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} So\r\nconnection: close\r\n", answer.status);
    let has_length = |(name, _): &(&str, String)| ["transfer-encoding", "content-length"].contains(name);
    if answer.status != 304 && !answer.headers.iter().any(has_length) {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    socket.write_all(format!("{head}\r\n").as_bytes()).await?;
    let (End::Fin(sent) | End::Rst(sent) | End::Silence(sent) | End::Drip(sent)) = answer.end else {
        return socket.write_all(&answer.body).await;
    };
    let sent = sent.min(answer.body.len());
    socket.write_all(&answer.body[..sent]).await?;
    match answer.end {
        End::Rst(_) => socket.set_zero_linger(),
        End::Silence(_) => std::future::pending().await,
        End::Drip(_) => {
            for byte in &answer.body[sent..] {
                tokio::time::sleep(Duration::from_millis(50)).await;
                socket.write_all(&[*byte]).await?;
            }
            Ok(())
        }
        End::Whole | End::Fin(_) => Ok(()),
    }
}

//! A client that notes every byte, and how it ended.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::s3::Faulty;

/// How long an answer may take to begin, and to go on.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come before the connection counts as silent.
const SILENCE: Duration = Duration::from_millis(300);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Closed,
    Reset,
    /// Not at all: nothing more came.
    Silent,
}

/// What came after a request.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) ended: Ended,
}

impl Seen {
    /// The status, or 0 when no answer began.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends a `GET` for a target such as `/bucket/key`, and waits for the end.
pub(crate) fn get(server: &Faulty, target: &str) -> Seen {
    send(server, &format!("GET {target}"), &[])
}

/// Sends a request with headers, and waits for the end.
pub(crate) fn send(server: &Faulty, request: &str, headers: &[(&str, &str)]) -> Seen {
    read(&mut ask(server, request, headers))
}

/// Sends the first `GET` of a server, waits until so many bytes of its answer's body were sent, and then for the end or silence.
pub(crate) fn get_until_silence(server: &Faulty, target: &str, bytes: u64) -> Seen {
    let mut stream = ask(server, &format!("GET {target}"), &[]);
    let is_sent = || server.requests().first().is_some_and(|request| request.sent_bytes == bytes);
    eventually("the bytes are sent", PATIENCE, || is_sent().then_some(()));
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    read(&mut stream)
}

fn ask(server: &Faulty, request: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{request} HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n{headers}\r\n").unwrap();
    stream
}

/// Reads until the connection ends, or is silent for as long as its time limit.
pub(crate) fn read(stream: &mut TcpStream) -> Seen {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let ended = loop {
        match stream.read(&mut piece) {
            Ok(0) => break Ended::Closed,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break Ended::Reset,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break Ended::Silent,
            Err(error) => panic!("{error}"),
        }
    };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    let body = bytes.split_off(end);
    Seen { head: String::from_utf8(bytes).unwrap(), body, ended }
}

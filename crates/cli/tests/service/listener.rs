//! A client that listens to the events of a job.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dunnage_testing::service::Service;
use serde_json::Value;

/// No event is waited for longer; without any there is a heartbeat every 15 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A stream of events that is being read.
pub(crate) struct Listener {
    head: String,
    lines: BufReader<Chunks>,
}

impl Listener {
    /// Listens to a job from its beginning.
    pub(crate) fn open(service: &Service, job: &str) -> Self {
        Self::connect(service, &format!("/jobs/{job}/events"), "")
    }

    /// Listens again, behind an event.
    pub(crate) fn open_behind(service: &Service, job: &str, last: &str) -> Self {
        Self::connect(service, &format!("/jobs/{job}/events"), &format!("Last-Event-ID: {last}\r\n"))
    }

    /// Sends a request, and reads the head of an answer that is a stream.
    pub(crate) fn connect(service: &Service, target: &str, headers: &str) -> Self {
        let address = service.address();
        let mut stream = TcpStream::connect(address).expect("the service listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time is set");
        let head = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("the service reads");
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).expect("an answer has a head"), 0, "the answer has no end: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Self { head, lines: BufReader::new(Chunks { stream, left: 0, has_ended: false }) }
    }

    /// The value of a header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The next event, or `None` when the stream has ended as it should.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("the stream goes on or ends in good order") == 0 {
                assert!(fields.is_empty(), "the stream ends within an event: {fields:?}");
                return None;
            }
            match line.trim_end_matches('\n').split_once(':') {
                Some(("id" | "event" | "data", value)) => fields.push(value.strip_prefix(' ').unwrap_or(value).to_owned()),
                Some(("" | "retry", _)) => {}
                None if line == "\n" && !fields.is_empty() => break,
                None if line == "\n" => {}
                _ => panic!("`{line}` is no part of an event"),
            }
        }
        let [id, name, data] = fields.try_into().expect("an event has an id, a name and data");
        Some(Event { id, name, data: serde_json::from_str(&data).expect("data are JSON") })
    }

    /// Reads on up to the first event that satisfies `wanted`, and returns what has come.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while !events.last().is_some_and(&wanted) {
            events.push(self.next().unwrap_or_else(|| panic!("the stream ends before {what}; there were {events:?}")));
        }
        events
    }

    /// Every event that is still to come.
    #[track_caller]
    pub(crate) fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// A body that comes in pieces.
struct Chunks {
    stream: BufReader<TcpStream>,
    /// What is left of the present piece.
    left: usize,
    has_ended: bool,
}

impl Chunks {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        if self.left == 0 {
            self.left = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            self.has_ended = self.left == 0;
        }
        let room = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..room])?;
        self.left -= read;
        if self.left == 0 {
            self.line()?;
        }
        if read == 0 && !self.has_ended { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }
}

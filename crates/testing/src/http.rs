//! A client that sends exactly what it is told to, mistakes included.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer, as the services under test are usually set up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    has_length: bool,
    patience: Duration,
}

impl Request {
    /// With a method and a target, such as `/status?jobId=7`.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: Vec::new(), has_length: false, patience: PATIENCE }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a token, as RFC 6750 has it.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// A body with its length, of the type given.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.has_length = true;
        self.header("Content-Type", content_type)
    }

    /// A JSON body with its length.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A form with files, each a name and its contents, and text fields.
    #[must_use]
    pub fn form(self, files: &[(&str, &str)], fields: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(name, contents)| (format!("name=\"file\"; filename=\"{name}\""), contents));
        let fields = fields.iter().map(|(name, contents)| (format!("name=\"{name}\""), contents));
        let parts = files.chain(fields);
        let parts: String =
            parts.map(|(names, text)| format!("--cut\r\nContent-Disposition: form-data; {names}\r\n\r\n{text}\r\n")).collect();
        self.body("multipart/form-data; boundary=cut", format!("{parts}--cut--\r\n"))
    }

    /// Bytes that follow the headers as they are; the headers must say how long they are, or not.
    #[must_use]
    pub fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Gives up on an answer after this time.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends the request over a connection of its own.
    ///
    /// # Errors
    ///
    /// When no whole answer came. The request may have had its effect all the same, unless the kind is
    /// [`io::ErrorKind::ConnectionRefused`].
    pub fn send(&self, address: SocketAddr) -> io::Result<Response> {
        Response::read(&mut BufReader::new(self.begin(address)?), self.method == "HEAD")
    }

    /// Sends the request and returns the connection without waiting for an answer; dropping it hangs up.
    ///
    /// # Errors
    ///
    /// When it could not be sent.
    pub fn begin(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.write_all(&self.encode(address))?;
        Ok(stream)
    }

    /// Sends the request over a connection that has been made, and reads the answer.
    ///
    /// # Errors
    ///
    /// As [`Request::send`].
    pub fn exchange(&self, mut stream: impl Read + Write, address: SocketAddr) -> io::Result<Response> {
        stream.write_all(&self.encode(address))?;
        Response::read(&mut BufReader::new(stream), self.method == "HEAD")
    }

    fn encode(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            head.push_str(&format!("Host: {address}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.has_length {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    /// A header by its name, in whatever case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as a text.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The body of an answer with this status.
    ///
    /// # Panics
    ///
    /// When it has another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.json()
    }

    /// Makes sure that this is the problem `code`, complete and well formed, and returns its detail.
    ///
    /// # Panics
    ///
    /// When it is another or malformed.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let body = self.json();
        assert_eq!(body["code"], code, "{self}");
        assert_eq!(body["status"], status, "{self}");
        assert_eq!(body["type"], format!("urn:dunnage:error:{code}"), "{self}");
        assert_eq!(body["requestId"].as_str(), self.header("x-request-id"), "{self}");
        assert_eq!(status == 503, self.header("retry-after").is_some(), "{self}");
        body["detail"].as_str().expect("a problem has a detail").to_owned()
    }

    pub(crate) fn read(stream: &mut impl BufRead, is_head: bool) -> io::Result<Self> {
        let malformed = |line: &str| io::Error::other(format!("`{line}` is no part of an HTTP answer"));
        let status_line = read_line(stream)?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| malformed(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(stream)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or_else(|| malformed(&line))?;
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut response = Self { status, headers, body: Vec::new() };
        if !is_head {
            response.read_body(stream)?;
        }
        Ok(response)
    }

    fn read_body(&mut self, stream: &mut impl BufRead) -> io::Result<()> {
        let length = self.header("content-length").map(|length| length.parse().map_err(io::Error::other));
        self.body = vec![0; length.transpose()?.unwrap_or(0)];
        stream.read_exact(&mut self.body)?;
        // The services answer nothing without a length, so the rest is nothing.
        if self.header("transfer-encoding").is_some() {
            return Err(io::Error::other("an answer came in pieces"));
        }
        Ok(())
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    // A line of an answer is short; something that never ends is none.
    stream.by_ref().take(64 << 10).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

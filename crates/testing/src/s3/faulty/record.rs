//! What a faulty server remembers of requests.

use std::time::Instant;

/// A request, and how far its answer has come.
#[derive(Debug, Clone)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// `bucket/key`, or the bucket alone, as text and not encoded.
    pub path: String,
    /// Names and values, not encoded.
    pub query: Vec<(String, String)>,
    /// Names in small letters, and values. What was signed how is left out.
    pub headers: Vec<(String, String)>,
    /// Whether it says who sends it, by a header or in its query.
    pub is_signed: bool,
    /// How long its body was.
    pub body_bytes: u64,
    /// When it had arrived, body included.
    pub at: Instant,
    /// How many requests had no whole answer then, this one included.
    pub open: usize,
    /// The status of the answer, once that has begun.
    pub status: Option<u16>,
    /// How many bytes of its answer's body were sent.
    pub sent_bytes: u64,
    /// When its answer was at its end, or the connection.
    pub ended: Option<Instant>,
}

impl Request {
    /// A header by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The value of something in the query.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The range that is asked for, such as `bytes=0-99`.
    #[must_use]
    pub fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// The bucket, and the key, which is empty where the bucket itself is meant.
    pub(super) fn place(&self) -> (&str, &str) {
        self.path.split_once('/').unwrap_or((&self.path, ""))
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// All requests, in the order of their arrival, and what is open.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) requests: Vec<Request>,
    /// Requests that have no whole answer yet.
    open: usize,
    /// Bytes of bodies that have been announced and not been sent yet.
    announced: u64,
    pub(super) most_open: usize,
    pub(super) most_announced: u64,
}

impl Log {
    /// Notes a request, and returns its number.
    pub(super) fn arrive(&mut self, mut request: Request) -> usize {
        self.open += 1;
        self.most_open = self.most_open.max(self.open);
        request.open = self.open;
        self.requests.push(request);
        self.requests.len() - 1
    }

    /// Notes that an answer with a body of so many bytes begins.
    pub(super) fn begin(&mut self, number: usize, status: u16, bytes: u64) {
        self.requests[number].status = Some(status);
        self.announced += bytes;
        self.most_announced = self.most_announced.max(self.announced);
    }

    pub(super) fn sent(&mut self, number: usize, bytes: u64) {
        self.requests[number].sent_bytes += bytes;
    }

    /// Notes that a request has ended, whose answer was announced to have so many bytes.
    pub(super) fn end(&mut self, number: usize, announced: u64) {
        self.requests[number].ended = Some(Instant::now());
        self.open -= 1;
        self.announced -= announced;
    }
}

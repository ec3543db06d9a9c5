//! What is seen of a request's head while it comes, before the library has read it.

use tokio::time::Instant;

/// Follows the heads of a connection's requests, so far as that can be done without reading them.
///
/// It keeps the time at which a head began. It also looks at the line ends of a head that begins where nothing else can be under way:
/// with the connection, or where the request before it has ended to the byte. The library would take a bare line feed for the end of
/// a line, which a proxy in front of us may not do; whoever can make the two disagree can smuggle a request past the proxy. What
/// a client sends ahead, and what follows a chunked body, is not looked at: a proxy sends nothing ahead.
pub(super) struct HeadWatch {
    /// When the head began that is not complete yet.
    since: Option<Instant>,
    /// How many requests had come when this was last brought up to date.
    requests: u64,
    /// How many bytes have come since the head began.
    received: u64,
    lines: Lines,
}

/// What is known of the lines of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// The head has not ended.
    Within(Line),
    /// It has ended, and the request, as far as is known, will end after so many bytes.
    Ended { request_bytes: u64, first: u64 },
    /// Nobody knows where heads begin.
    Unknown,
}

/// The line that is coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Line {
    /// How much of it has come.
    bytes: u64,
    /// The last byte that has.
    last: u8,
    /// How long the head's first line was, if this is a later one. The library overlooks empty lines before it.
    first: Option<u64>,
}

/// A line of a head ends with a line feed alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BareLineFeed;

impl HeadWatch {
    /// For a connection that was opened then; its first head is awaited from the beginning.
    pub(super) fn new(opened: Instant) -> Self {
        Self { since: Some(opened), requests: 0, received: 0, lines: Lines::Within(Line::default()) }
    }

    /// Since when a head is awaited; `None` between requests, and while one is under way.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How long the first line is of the head that came last, as far as it has come and is known.
    pub(super) fn first_line(&self) -> u64 {
        match self.lines {
            Lines::Within(line) => line.first.unwrap_or(line.bytes),
            Lines::Ended { first, .. } => first,
            Lines::Unknown => 0,
        }
    }

    /// To be called before anything is read or waited for, with how many requests have come in all, and how long the last one's body is if
    /// that is known.
    pub(super) fn catch_up(&mut self, requests: u64, body: Option<u64>) {
        let new = requests - self.requests;
        if new == 0 {
            return;
        }
        self.requests = requests;
        self.since = None;
        self.lines = match (self.lines, body) {
            (Lines::Ended { request_bytes, first }, Some(body)) if new == 1 => {
                Lines::Ended { request_bytes: request_bytes.saturating_add(body), first }
            }
            _ => Lines::Unknown,
        };
    }

    /// Notes bytes that come while a request is under way.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
    }

    /// Notes bytes that come while none is.
    pub(super) fn take(&mut self, bytes: &[u8], now: impl FnOnce() -> Instant) -> Result<(), BareLineFeed> {
        if self.since.is_none() {
            self.since = Some(now());
            self.lines = match self.lines {
                Lines::Ended { request_bytes, .. } if request_bytes == self.received => Lines::Within(Line::default()),
                _ => Lines::Unknown,
            };
            self.received = 0;
        }
        if let Lines::Within(line) = self.lines {
            self.lines = line.followed(bytes, self.received)?;
        }
        self.received += bytes.len() as u64;
        Ok(())
    }
}

impl Line {
    /// What is known when these bytes have come, too, after so many others of the head.
    fn followed(mut self, bytes: &[u8], before: u64) -> Result<Lines, BareLineFeed> {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let before_end = if end > begin { bytes[end - 1] } else { self.last };
            self.bytes += (end + 1 - begin) as u64;
            begin = end + 1;
            if before_end != b'\r' || self.bytes < 2 {
                return Err(BareLineFeed);
            }
            match self.first {
                Some(first) if self.bytes == 2 => return Ok(Lines::Ended { request_bytes: before + begin as u64, first }),
                None if self.bytes > 2 => self.first = Some(self.bytes),
                _ => {}
            }
            self = Self { bytes: 0, last: b'\n', first: self.first };
        }
        self.bytes += (bytes.len() - begin) as u64;
        self.last = bytes.last().copied().unwrap_or(self.last);
        Ok(Lines::Within(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

    fn watch() -> HeadWatch {
        HeadWatch::new(Instant::now())
    }

    /// What is made of these bytes, whole and byte by byte.
    fn verdict(bytes: &[u8]) -> Result<Lines, BareLineFeed> {
        let mut whole = watch();
        let outcome = whole.take(bytes, Instant::now).map(|()| whole.lines);
        let mut piecewise = watch();
        let mut parts = bytes.chunks(1).map(|byte| piecewise.take(byte, Instant::now));
        let same = parts.try_for_each(|part| part).map(|()| piecewise.lines);
        assert_eq!(outcome, same, "{}", String::from_utf8_lossy(bytes));
        outcome
    }

    #[test]
    fn bare_line_feeds_are_found_wherever_they_are() {
        let fine = Ok(Lines::Ended { request_bytes: HEAD.len() as u64, first: 23 });
        assert_eq!(verdict(HEAD), fine);
        let after_empty_lines = verdict(&[b"\r\n\r\n", HEAD].concat());
        assert_eq!(after_empty_lines, Ok(Lines::Ended { request_bytes: HEAD.len() as u64 + 4, first: 23 }));
        for bare in ["\nGET / HTTP/1.1\r\n", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\r\nHost: a\r\n\n"] {
            assert_eq!(verdict(bare.as_bytes()), Err(BareLineFeed), "{bare:?}");
        }
        assert!(matches!(verdict(b"GET / HTTP/1.1\r\nHost"), Ok(Lines::Within(_))));
    }

    #[test]
    fn what_follows_a_head_is_not_looked_at() {
        let mut watch = watch();
        assert_eq!(watch.take(&[HEAD, b"\n"].concat(), Instant::now), Ok(()));
        watch.catch_up(1, Some(3));
        watch.pass(b"\n\n");
        assert_eq!(watch.since(), None);
    }

    #[test]
    fn the_next_head_is_looked_at_if_it_begins_where_the_request_ended() {
        for (body, ahead, found) in [(Some(3), "", true), (Some(3), "GET", false), (None, "", false), (Some(2), "", false)] {
            let mut watch = watch();
            watch.take(HEAD, Instant::now).unwrap();
            watch.catch_up(1, body);
            watch.pass(b"{\n}");
            watch.pass(ahead.as_bytes());
            let next = watch.take(b"GET / HTTP/1.1\n", Instant::now);
            assert_eq!(next.is_err(), found, "{body:?} {ahead}");
            assert!(watch.since().is_some());
        }
    }

    #[test]
    fn the_first_line_is_measured_while_it_comes_and_afterwards() {
        let mut watch = watch();
        let long = [b"GET /".as_slice(), &[b'x'; 70_000]].concat();
        watch.take(&long, Instant::now).unwrap();
        assert_eq!(watch.first_line(), 70_005);
        watch.take(b" HTTP/1.1\r\nHost: a\r\n\r\n", Instant::now).unwrap();
        assert_eq!(watch.first_line(), 70_016);
    }
}

//! Answers on their way, and what happens to them there.

use std::io;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::answer::Answer;
use super::content::PIECE_BYTES;
use super::fault::{End, Fault};

/// How often a slow answer goes on, at most.
const STEPS_PER_SECOND: u64 = 20;

/// An answer, and how it is to be sent.
pub(super) struct Delivery {
    answer: Answer,
    is_chunked: bool,
    stop: Option<Stop>,
    bytes_per_second: Option<u64>,
    flipped: Option<u64>,
}

/// Where a body stops, and what the connection does then.
#[derive(Debug, Clone, Copy)]
struct Stop {
    after: u64,
    then: Option<End>,
}

impl Delivery {
    pub(super) fn new(answer: Answer, faults: &[Fault]) -> Self {
        let mut delivery = Self { answer, is_chunked: false, stop: None, bytes_per_second: None, flipped: None };
        faults.iter().for_each(|fault| delivery.suffer(fault));
        delivery
    }

    pub(super) fn status(&self) -> u16 {
        self.answer.status
    }

    /// How long its body is said to be.
    pub(super) fn length(&self) -> u64 {
        self.answer.range.end - self.answer.range.start
    }

    fn suffer(&mut self, fault: &Fault) {
        match fault {
            Fault::Header { name, value } => self.answer = self.answer.clone().with(name, value),
            Fault::Cut { after, with } => self.stop = Some(Stop { after: *after, then: Some(*with) }),
            Fault::Stall { after } => self.stop = Some(Stop { after: *after, then: None }),
            Fault::Short { bytes } => {
                let range = &mut self.answer.range;
                range.end = range.end.min(range.start + bytes);
                self.stop = Some(Stop { after: *bytes, then: Some(End::Fin) });
            }
            Fault::Drip { bytes_per_second } => self.bytes_per_second = Some(*bytes_per_second),
            Fault::NoLength => self.is_chunked = true,
            Fault::Flip { at } => self.flipped = Some(self.answer.range.start + (*at).min(self.length().saturating_sub(1))),
            // These are over by now, or there is no answer.
            Fault::Pass | Fault::Status { .. } | Fault::Html(_) | Fault::Replace(_) | Fault::Hold(_) | Fault::Together(_) => {}
            Fault::NeverAnswer | Fault::HangUp(_) | Fault::LoseAnswer(_) => {}
        }
    }

    /// Sends it, and says of each piece of the body how long it was. Returns whether the connection can go on.
    ///
    /// # Errors
    ///
    /// When the client is gone.
    pub(super) async fn send(self, stream: &mut BufReader<TcpStream>, sent: impl Fn(u64)) -> io::Result<bool> {
        stream.get_mut().write_all(self.head().as_bytes()).await?;
        if !self.has_body() {
            return Ok(true);
        }
        self.send_body(stream.get_mut(), sent).await?;
        match self.stop {
            Some(stop) => end(stream, stop.then).await?,
            None if self.is_chunked => stream.get_mut().write_all(b"0\r\n\r\n").await?,
            None => {}
        }
        Ok(self.stop.is_none())
    }

    fn has_body(&self) -> bool {
        !self.answer.is_head && !self.is_bare()
    }

    /// Whether the status is one of those that never come with a body.
    fn is_bare(&self) -> bool {
        matches!(self.answer.status, 204 | 304)
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} as told\r\nx-amz-request-id: faulty\r\n", self.answer.status);
        head += &format!("Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now()));
        if self.is_chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else if !self.is_bare() {
            head += &format!("Content-Length: {}\r\n", self.length());
        }
        self.answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head + "\r\n"
    }

    async fn send_body(&self, stream: &mut TcpStream, sent: impl Fn(u64)) -> io::Result<()> {
        let mut piece = vec![0; self.piece_bytes()];
        let end = self.stop.map_or(self.length(), |stop| stop.after.min(self.length())) + self.answer.range.start;
        let mut at = self.answer.range.start;
        while at < end {
            let length = usize::try_from(end - at).map_or(piece.len(), |left| left.min(piece.len()));
            self.fill(at, &mut piece[..length]);
            self.send_piece(stream, &piece[..length]).await?;
            sent(length as u64);
            at += length as u64;
        }
        Ok(())
    }

    fn piece_bytes(&self) -> usize {
        let step = self.bytes_per_second.map_or(PIECE_BYTES as u64, |rate| (rate / STEPS_PER_SECOND).max(1));
        usize::try_from(step).map_or(PIECE_BYTES, |step| step.min(PIECE_BYTES))
    }

    fn fill(&self, at: u64, piece: &mut [u8]) {
        self.answer.content.fill(at, piece);
        let place = self.flipped.and_then(|flipped| usize::try_from(flipped.checked_sub(at)?).ok());
        if let Some(byte) = place.and_then(|place| piece.get_mut(place)) {
            *byte ^= 1;
        }
    }

    async fn send_piece(&self, stream: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
        if self.is_chunked {
            let line = format!("{:x}\r\n", piece.len());
            stream.write_all(&[line.as_bytes(), piece, b"\r\n"].concat()).await?;
        } else {
            stream.write_all(piece).await?;
        }
        if let Some(rate) = self.bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        }
        Ok(())
    }
}

/// Ends a connection so, or waits until the client does.
pub(super) async fn end(stream: &mut BufReader<TcpStream>, with: Option<End>) -> io::Result<()> {
    match with {
        Some(End::Fin) => stream.get_mut().shutdown().await,
        Some(End::Rst) => stream.get_mut().set_zero_linger(),
        None => gone(stream).await,
    }
}

/// Waits until the client has closed the connection. A request that comes too early waits with it.
pub(super) async fn gone(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    if stream.fill_buf().await?.is_empty() { Ok(()) } else { std::future::pending().await }
}

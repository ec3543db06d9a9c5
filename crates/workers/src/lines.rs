//! What a worker prints, cut into lines.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use dunnage_types::{LogLevel, LogSource};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use crate::allowance::Allowance;
use crate::host::Line;

/// A longer line is cut into pieces of this size.
pub(crate) const MAX_LINE_BYTES: usize = 8 << 10;
/// At most so much is taken from a pipe when a call ends; only something that prints without end has more.
const MAX_DRAIN_BYTES: usize = 1 << 20;
/// So much is kept of each of them.
const KEPT_LINE_BYTES: usize = 1000;
/// So many of the last lines of standard error are kept, to explain a crash.
const KEPT_LINES: usize = 20;

/// The worker's standard output and standard error.
#[derive(Debug)]
pub(crate) struct Lines {
    stdout: Stream,
    stderr: Stream,
    recent: VecDeque<String>,
    allowance: Allowance,
}

impl Lines {
    pub(crate) fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let stdout = Stream::new(stdout, LogSource::Stdout)?;
        let stderr = Stream::new(stderr, LogSource::Stderr)?;
        Ok(Self { stdout, stderr, recent: VecDeque::new(), allowance: Allowance::new(Instant::now()) })
    }

    /// Waits for lines; for ever once both pipes are closed. May be dropped and called again without losing any.
    pub(crate) async fn next(&mut self) -> Vec<Line> {
        poll_fn(|context| match (self.stdout.poll_readable(context), self.stderr.poll_readable(context)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
        // To wait for a pipe that always has more is not to wait: without this, deadlines, requests and whatever else is on
        // this thread would have to wait instead, for as long as somebody prints.
        tokio::task::yield_now().await;
        self.take(MAX_LINE_BYTES)
    }

    /// Everything that has been written so far, an unfinished last line included. A worker writes what belongs to a call
    /// before it answers the call, so after an answer this finds the call's last lines.
    pub(crate) fn drain(&mut self) -> Vec<Line> {
        let mut lines = self.read(MAX_DRAIN_BYTES);
        lines.extend(self.stdout.unfinished());
        lines.extend(self.stderr.unfinished().inspect(|line| remember(&mut self.recent, line)));
        let now = Instant::now();
        let mut admitted = self.allowance.admit(lines, now);
        admitted.extend(self.allowance.tell_left_out(now));
        admitted
    }

    /// A line that did not come through a pipe, as far as it may pass: what a script logs goes where goes what it prints.
    pub(crate) fn admit(&mut self, line: Line) -> Vec<Line> {
        self.allowance.admit(vec![line], Instant::now())
    }

    /// The last lines of standard error.
    pub(crate) fn recent(&self) -> Vec<String> {
        self.recent.iter().cloned().collect()
    }

    fn take(&mut self, max_bytes: usize) -> Vec<Line> {
        let lines = self.read(max_bytes);
        self.allowance.admit(lines, Instant::now())
    }

    fn read(&mut self, max_bytes: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        self.stdout.read(max_bytes, &mut lines);
        let from_stderr = lines.len();
        self.stderr.read(max_bytes, &mut lines);
        for line in &lines[from_stderr..] {
            remember(&mut self.recent, line);
        }
        lines
    }
}

fn remember(recent: &mut VecDeque<String>, line: &Line) {
    if recent.len() == KEPT_LINES {
        recent.pop_front();
    }
    let end = line.message.floor_char_boundary(KEPT_LINE_BYTES);
    recent.push_back(line.message[..end].to_owned());
}

#[derive(Debug)]
struct Stream {
    /// `None` once the worker has closed it.
    pipe: Option<Receiver>,
    source: LogSource,
    partial: Vec<u8>,
}

impl Stream {
    fn new(pipe: OwnedFd, source: LogSource) -> io::Result<Self> {
        Ok(Self { pipe: Some(Receiver::from_owned_fd(pipe)?), source, partial: Vec::new() })
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.pipe {
            // To read nothing takes as long as until there is something, and registers nothing that has to be taken back. An error
            // shows up again, and is dealt with, in `read`.
            Some(pipe) => Pin::new(pipe).poll_read(context, &mut ReadBuf::new(&mut [])).map(drop),
            None => Poll::Pending,
        }
    }

    /// Reads what is there, up to about `max_bytes`, without waiting.
    fn read(&mut self, max_bytes: usize, lines: &mut Vec<Line>) {
        let mut chunk = [0; MAX_LINE_BYTES];
        let mut taken = 0;
        while let Some(pipe) = self.pipe.as_ref().filter(|_| taken < max_bytes) {
            match pipe.try_read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    taken += length;
                    self.split(&chunk[..length], lines);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.read_past_runtime(&mut chunk) {
                    Some(length) => {
                        taken += length;
                        self.split(&chunk[..length], lines);
                    }
                    None => return,
                },
                Err(error) => {
                    tracing::warn!(source = self.source.as_str(), %error, "a worker's output cannot be read");
                    self.pipe = None;
                }
            }
        }
    }

    /// The async runtime says "would block" from what it last heard of the pipe, which may be older than the answer we have
    /// just received. Ask the system itself.
    fn read_past_runtime(&self, chunk: &mut [u8]) -> Option<usize> {
        let pipe = self.pipe.as_ref()?;
        rustix::io::read(pipe, chunk).ok().filter(|length| *length > 0)
    }

    fn split(&mut self, mut bytes: &[u8], lines: &mut Vec<Line>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            lines.extend(self.unfinished().or_else(|| Some(self.line(""))));
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        while self.partial.len() >= MAX_LINE_BYTES {
            let rest = self.partial.split_off(MAX_LINE_BYTES);
            lines.extend(self.unfinished());
            self.partial = rest;
        }
    }

    fn unfinished(&mut self) -> Option<Line> {
        if self.partial.is_empty() {
            return None;
        }
        let line = self.line(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        Some(line)
    }

    fn line(&self, text: &str) -> Line {
        let level = if self.source == LogSource::Stderr { LogLevel::Warning } else { LogLevel::Info };
        Line { source: self.source, level, message: text.trim_end_matches('\r').to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair() -> (io::PipeWriter, io::PipeWriter, Lines) {
        let (stdout, writes_stdout) = io::pipe().unwrap();
        let (stderr, writes_stderr) = io::pipe().unwrap();
        (writes_stdout, writes_stderr, Lines::new(stdout.into(), stderr.into()).unwrap())
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[tokio::test]
    async fn everything_written_so_far_is_found_at_once() {
        let (mut stdout, mut stderr, mut lines) = pair();
        stdout.write_all(b"one\n\ntwo\r\nthr").unwrap();
        stderr.write_all(b"oh\xff\n").unwrap();
        assert_eq!(texts(&lines.drain()), ["one", "", "two", "oh\u{fffd}", "thr"]);
        assert_eq!(lines.recent(), ["oh\u{fffd}"]);
    }

    #[tokio::test]
    async fn a_long_line_comes_in_pieces() {
        let (mut stdout, _stderr, mut lines) = pair();
        stdout.write_all(&vec![b'x'; 2 * MAX_LINE_BYTES + 5]).unwrap();
        let lengths: Vec<_> = lines.drain().iter().map(|line| line.message.len()).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
    }

    #[tokio::test]
    async fn the_lines_that_are_kept_are_short() {
        let (_stdout, mut stderr, mut lines) = pair();
        stderr.write_all("é".repeat(MAX_LINE_BYTES / 2 - 1).as_bytes()).unwrap();
        lines.drain();
        assert_eq!(lines.recent()[0].len(), KEPT_LINE_BYTES);
    }

    #[tokio::test]
    async fn who_prints_without_end_keeps_nobody_waiting() {
        let (mut stdout, _stderr, mut lines) = pair();
        stdout.write_all(&b"\n".repeat(4 * MAX_LINE_BYTES)).unwrap();
        assert!(!lines.next().await.is_empty());
        let other = tokio::spawn(async {});
        assert!(!lines.next().await.is_empty());
        assert!(other.is_finished(), "the other task has had its turn");
        tokio::select! {
            biased;
            lines = lines.next() => panic!("{} lines came before a deadline that had passed", lines.len()),
            () = std::future::ready(()) => {}
        }
        assert!(!lines.next().await.is_empty(), "nothing is lost");
    }

    #[tokio::test]
    async fn a_closed_pipe_does_not_end_the_other() {
        let (stdout, mut stderr, mut lines) = pair();
        drop(stdout);
        assert!(lines.next().await.is_empty());
        stderr.write_all(b"still here\n").unwrap();
        assert_eq!(texts(&lines.next().await), ["still here"]);
    }
}

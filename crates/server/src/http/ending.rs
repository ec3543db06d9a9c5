//! How a connection is ended so that its client can read the last answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::timer::Timer;
use super::transport::Transport;

/// For so long what a client still sends is read and thrown away. To close while something is unread would reset the connection, and
/// the client's system would throw the answer away that it has not read yet.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// So much is thrown away in one go, before others get their turn.
const DISCARDED_AT_ONCE: usize = 16;

/// A last answer, then the end.
pub(super) struct Ending {
    answer: Vec<u8>,
    written: usize,
    is_shut: bool,
    deadline: Instant,
}

impl Ending {
    /// With this answer, which may be empty.
    pub(super) fn with(answer: Vec<u8>) -> Self {
        Self { answer, written: 0, is_shut: false, deadline: Instant::now() + LINGER }
    }

    /// How much of the answer has been written.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Ready when nothing is left to be done: the answer has been written and the client has closed, or the time is up.
    pub(super) fn poll(&mut self, transport: &mut Transport, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        match self.go_on(transport, cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending if timer.has_passed(self.deadline, cx) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn go_on(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.answer.len() {
            self.written += ready!(Pin::new(&mut *transport).poll_write(cx, &self.answer[self.written..]))?;
        }
        if !self.is_shut {
            ready!(Pin::new(&mut *transport).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        discard(transport, cx)
    }
}

/// Throws away what comes. Ready at the end.
pub(super) fn discard(transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut scratch = [0; 4096];
    for _ in 0..DISCARDED_AT_ONCE {
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *transport).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

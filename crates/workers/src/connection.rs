//! The server's end of the socket pair.

use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use dunnage_protocol::{FrameError, GivenOutput, MessageError, ToServer, ToWorker, decode};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::said::shortened;

/// There is room for so much before each read, so that one read takes many answers.
const ROOM_BYTES: usize = 16 << 10;

/// A connection to one worker.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    received: BytesMut,
    outgoing: BytesMut,
}

impl Connection {
    pub(crate) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)?, received: BytesMut::new(), outgoing: BytesMut::new() })
    }

    /// Puts a message behind what has yet to be written; [`Connection::turn`] writes it.
    pub(crate) fn enqueue(&mut self, message: &ToWorker) -> Result<(), Broken> {
        Ok(message.encode(&mut self.outgoing)?)
    }

    /// Puts a call behind what has yet to be written. All that has been enqueued by the next turn is written at once.
    pub(crate) fn enqueue_output(&mut self, output: GivenOutput<'_>) -> Result<(), Broken> {
        Ok(output.encode(&mut self.outgoing)?)
    }

    /// Takes the next message out of what has been read already, if there is a whole one.
    pub(crate) fn next(&mut self) -> Result<Option<ToServer>, Broken> {
        match decode(&mut self.received)? {
            Some(frame) => Ok(Some(shortened(ToServer::from_frame(&frame)?))),
            None => Ok(None),
        }
    }

    /// Writes what has been enqueued while waiting for the next message; `None` when the worker has closed the connection. A
    /// worker that does not read holds up nothing but itself. May be dropped and called again without losing a byte.
    pub(crate) async fn turn(&mut self) -> Result<Option<ToServer>, Broken> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
            if poll_fn(|context| self.poll_exchange(context)).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads what is still there of a worker that has ended. The async runtime may not have heard of it yet, so the system is asked.
    pub(crate) fn read_rest(&mut self) {
        let mut chunk = [0; 4 << 10];
        // A failure means that there is no more, as the end does.
        while let Ok((length @ 1.., _)) = rustix::net::recv(&self.stream, &mut chunk, RecvFlags::DONTWAIT) {
            self.received.extend_from_slice(&chunk[..length]);
        }
    }

    /// Writes as much as the worker takes, and reads what it has said; how much that was.
    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outgoing) {
                Poll::Ready(written) => self.outgoing.advance(written?),
                Poll::Pending => break,
            }
        }
        self.received.reserve(ROOM_BYTES);
        pin!(self.stream.read_buf(&mut self.received)).poll(context)
    }

    /// Tells the worker that nothing more will come.
    pub(crate) async fn close(&mut self) {
        // Failure means that it is closed already.
        let _ = self.stream.shutdown().await;
    }
}

/// Why a connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] MessageError),
}

//! The server's end of the socket pair.

use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use dunnage_protocol::{FrameError, GivenOutput, MessageError, ToServer, ToWorker, decode_with};
use tokio::io::{AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::descriptors::{DescriptorError, Descriptors, Received, receive};
use crate::said::shortened;

/// There is room for so much before each read, so that one read takes many answers.
const ROOM_BYTES: usize = 16 << 10;

/// A connection to one worker.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    received: BytesMut,
    descriptors: Descriptors,
    outgoing: BytesMut,
}

impl Connection {
    pub(crate) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            received: BytesMut::new(),
            descriptors: Descriptors::default(),
            outgoing: BytesMut::new(),
        })
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
        match decode_with(&mut self.received, |length| self.descriptors.take(length).map_err(Broken::from))? {
            Some(frame) => Ok(Some(shortened(ToServer::from_frame(&frame)?))),
            None if self.received.is_empty() => Ok(self.descriptors.end().map(|()| None)?),
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

    /// The next message of a worker that has ended. The async runtime may not have heard yet of what is still there, so the system is asked.
    /// An error of the socket means that there is no more, as `None` does: somebody whom the script has started may still hold the other end.
    pub(crate) fn next_of_rest(&mut self) -> Result<Option<ToServer>, Broken> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
            self.received.reserve(ROOM_BYTES);
            let received = receive(&self.stream, &mut self.received)?;
            if self.note(received)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Writes as much as the worker takes, and reads what it has said; how much that was.
    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outgoing) {
                Poll::Ready(written) => self.outgoing.advance(written?),
                Poll::Pending => break,
            }
        }
        let received = ready!(self.poll_receive(context))?;
        Poll::Ready(self.note(received))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Received>> {
        self.received.reserve(ROOM_BYTES);
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            let mut received = None;
            let read = self.stream.try_io(Interest::READABLE, || {
                let found = received.insert(receive(&self.stream, &mut self.received)?);
                // What has left room has emptied the socket, as long as no descriptor has ended it: a look at the empty socket is saved.
                let is_empty = found.bytes > 0 && found.has_room && !found.has_control;
                if is_empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (received, read) {
                (Some(received), _) => return Poll::Ready(Ok(received)),
                (None, Err(error)) if !is_passing(&error) => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
        }
    }

    /// Keeps a descriptor that has come for its frame; how many bytes came.
    fn note(&mut self, received: Received) -> Result<usize, Broken> {
        if received.is_cut {
            return Err(DescriptorError::Cut.into());
        }
        if let Some(descriptor) = received.descriptor {
            self.descriptors.put(descriptor)?;
        }
        Ok(received.bytes)
    }

    /// Tells the worker that nothing more will come.
    pub(crate) async fn close(&mut self) {
        // Failure means that it is closed already.
        let _ = self.stream.shutdown().await;
    }
}

/// Whether an error only means that it has to be tried again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
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
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
}

#[cfg(test)]
mod tests;

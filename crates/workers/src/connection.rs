//! The server's end of the socket pair.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use bytes::BytesMut;
use dunnage_protocol::{FrameError, MessageError, ToServer, ToWorker, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

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
        Ok(Self { stream: UnixStream::from_std(stream)?, received: BytesMut::with_capacity(8 << 10), outgoing: BytesMut::new() })
    }

    /// The next message; `None` when the worker has closed the connection. May be dropped and called again without losing
    /// a byte.
    pub(crate) async fn receive(&mut self) -> Result<Option<ToServer>, Broken> {
        loop {
            if let Some(frame) = decode(&mut self.received)? {
                return Ok(Some(ToServer::from_frame(&frame)?));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Sends a message whole. A worker reads whenever it is between calls or waits for a reply, which is when we write. When
    /// this is dropped half way, the next message takes the rest along.
    pub(crate) async fn send(&mut self, message: &ToWorker) -> Result<(), Broken> {
        message.to_frame()?.encode(&mut self.outgoing)?;
        while !self.outgoing.is_empty() {
            self.stream.write_buf(&mut self.outgoing).await?;
        }
        Ok(())
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

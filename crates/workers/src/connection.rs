//! The server's end of the socket pair.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use bytes::BytesMut;
use dunnage_protocol::{FrameError, MessageError, ToServer, ToWorker, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::said::shortened;

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

    /// Puts a message behind what has yet to be written; [`Connection::turn`] writes it.
    pub(crate) fn enqueue(&mut self, message: &ToWorker) -> Result<(), Broken> {
        message.to_frame()?.encode(&mut self.outgoing)?;
        Ok(())
    }

    /// Writes what has been enqueued while waiting for the next message; `None` when the worker has closed the connection. A
    /// worker that does not read holds up nothing but itself. May be dropped and called again without losing a byte.
    pub(crate) async fn turn(&mut self) -> Result<Option<ToServer>, Broken> {
        loop {
            if let Some(frame) = decode(&mut self.received)? {
                return Ok(Some(shortened(ToServer::from_frame(&frame)?)));
            }
            let (mut reads, mut writes) = self.stream.split();
            tokio::select! {
                biased;
                written = writes.write_buf(&mut self.outgoing), if !self.outgoing.is_empty() => drop(written?),
                read = reads.read_buf(&mut self.received) => if read? == 0 {
                    return Ok(None);
                },
            }
        }
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

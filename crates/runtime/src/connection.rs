//! The worker's end of the socket pair, shared by the worker loop and the script's questions.
//!
//! There is no reader thread: whoever waits for something reads, and puts aside what is meant for others. An idle worker
//! is therefore woken once for a call, not twice.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, BufReader, IoSlice, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use bytes::BytesMut;
use dunnage_protocol::{
    AskId, CallId, Frame, MessageError, Operation, Outputs, Reply, ReplyOutcome, Returned, ToServer, ToWorker, read_frame,
};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::payload::{self, Payload, Sealed};

/// Most messages fit into so many bytes.
const SHORT_BYTES: usize = 2 << 10;

/// A connection to the server. Several threads of a script may use it at once.
#[derive(Debug)]
pub(crate) struct Connection {
    outgoing: Mutex<UnixStream>,
    incoming: Mutex<Incoming>,
    last_ask: AtomicU64,
}

/// What has been read and not yet been asked for.
#[derive(Debug)]
struct Incoming {
    reader: BufReader<UnixStream>,
    calls: VecDeque<ToWorker>,
    replies: HashMap<AskId, ReplyOutcome>,
    cancelled: HashSet<CallId>,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        let reader = BufReader::with_capacity(64 << 10, stream.try_clone()?);
        let incoming = Incoming { reader, calls: VecDeque::new(), replies: HashMap::new(), cancelled: HashSet::new() };
        Ok(Self { outgoing: Mutex::new(stream), incoming: Mutex::new(incoming), last_ask: AtomicU64::new(0) })
    }

    /// Sends one message whole.
    pub(crate) fn send(&self, message: &ToServer) -> Result<(), ConnectionError> {
        let mut buffer = BytesMut::with_capacity(SHORT_BYTES);
        let payload = message.encode_head(&mut buffer)?;
        let mut outgoing = lock(&self.outgoing);
        if payload.len() > SHORT_BYTES {
            return Ok(write_both(&mut *outgoing, &buffer, payload)?);
        }
        buffer.extend_from_slice(payload);
        outgoing.write_all(&buffer)?;
        Ok(())
    }

    /// Sends the answers to a call, with the payload that they describe.
    pub(crate) fn send_outputs(&self, outputs: Outputs, payload: Payload) -> Result<(), ConnectionError> {
        let payload = match payload.seal()? {
            Sealed::Memory(bytes) => bytes,
            Sealed::File(file) => {
                let mut head = BytesMut::with_capacity(SHORT_BYTES);
                outputs.encode_with_descriptor(&mut head, file.length())?;
                let mut outgoing = lock(&self.outgoing);
                match payload::send_descriptor(&outgoing, &head, &file)? {
                    Some(written) => return Ok(outgoing.write_all(&head[written..])?),
                    None => file.read()?,
                }
            }
        };
        self.send(&ToServer::Outputs(outputs, payload))
    }

    /// Waits for the next message that is no reply and no cancellation; `None` when the server has closed the connection.
    pub(crate) fn next_call(&self) -> Result<Option<ToWorker>, ConnectionError> {
        let mut incoming = lock(&self.incoming);
        loop {
            if let Some(call) = incoming.calls.pop_front() {
                return Ok(Some(call));
            }
            if !incoming.read_one()? {
                return Ok(None);
            }
        }
    }

    /// The next call, if it has been read; `None` if it would have to be waited for.
    pub(crate) fn next_call_read(&self) -> Result<Option<ToWorker>, ConnectionError> {
        let mut incoming = lock(&self.incoming);
        while incoming.calls.is_empty() && !incoming.reader.buffer().is_empty() {
            incoming.read_one()?;
        }
        Ok(incoming.calls.pop_front())
    }

    /// Whether calls have been read that have not been asked for.
    pub(crate) fn has_more(&self) -> bool {
        let incoming = lock(&self.incoming);
        !incoming.calls.is_empty() || !incoming.reader.buffer().is_empty()
    }

    /// Hands back all calls for output that have come and were not asked for: from here on nobody can ask for them. Nothing happens
    /// while somebody waits for a message.
    pub(crate) fn hand_back(&self) -> Result<(), ConnectionError> {
        let mut incoming = match self.incoming.try_lock() {
            Ok(incoming) => incoming,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        while incoming.is_readable()? {
            if !incoming.read_one()? {
                return Err(ConnectionError::Closed);
            }
        }
        let mut buffer = BytesMut::new();
        for call in incoming.take_outputs() {
            ToServer::Returned(Returned { call }).encode(&mut buffer)?;
        }
        drop(incoming);
        if !buffer.is_empty() {
            lock(&self.outgoing).write_all(&buffer)?;
        }
        Ok(())
    }

    /// Asks the server and waits for the answer.
    pub(crate) fn ask(&self, call: Option<CallId>, operation: Operation) -> Result<ReplyOutcome, ConnectionError> {
        let ask = AskId(self.last_ask.fetch_add(1, Ordering::Relaxed) + 1);
        self.send(&ToServer::Ask(dunnage_protocol::Ask { ask, call, operation }))?;
        let mut incoming = lock(&self.incoming);
        loop {
            if let Some(outcome) = incoming.replies.remove(&ask) {
                return Ok(outcome);
            }
            if !incoming.read_one()? {
                return Err(ConnectionError::Closed);
            }
        }
    }

    /// Whether the server has cancelled `call`, as far as it has said so by now. Never waits.
    pub(crate) fn is_cancelled(&self, call: CallId) -> Result<bool, ConnectionError> {
        let mut incoming = match self.incoming.try_lock() {
            Ok(incoming) => incoming,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread of the script is reading; it will note a cancellation, to be seen by the next question.
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        while incoming.is_readable()? {
            if !incoming.read_one()? {
                return Err(ConnectionError::Closed);
            }
        }
        Ok(incoming.cancelled.contains(&call))
    }

    /// Forgets what was noted about a call that has ended.
    pub(crate) fn end_call(&self, call: CallId) {
        lock(&self.incoming).cancelled.remove(&call);
    }
}

impl Incoming {
    /// Reads one message and puts it where it belongs; `false` at the end of the connection.
    fn read_one(&mut self) -> Result<bool, ConnectionError> {
        let frame: Frame = match read_frame(&mut self.reader)? {
            Some(frame) => frame,
            None => return Ok(false),
        };
        match ToWorker::from_frame(&frame)? {
            ToWorker::Reply(Reply { ask, outcome }) => {
                self.replies.insert(ask, outcome);
            }
            ToWorker::Cancel(cancel) => {
                self.cancelled.insert(cancel.call);
            }
            call => self.calls.push_back(call),
        }
        Ok(true)
    }

    /// Forgets the calls for output that have been put aside.
    fn take_outputs(&mut self) -> Vec<CallId> {
        let mut taken = Vec::new();
        self.calls.retain(|message| match message {
            ToWorker::Output(output) => {
                taken.push(output.call);
                false
            }
            _ => true,
        });
        taken
    }

    fn is_readable(&self) -> io::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let mut polled = [PollFd::new(self.reader.get_ref(), PollFlags::IN)];
        let ready = rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(ready > 0)
    }
}

/// Writes two texts, one behind the other, as if they were one.
fn write_both(stream: &mut impl Write, first: &[u8], second: &[u8]) -> io::Result<()> {
    let mut both = [IoSlice::new(first), IoSlice::new(second)];
    let mut left = &mut both[..];
    while !left.is_empty() {
        match stream.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A panic while the lock was held leaves nothing half done that a later holder could trip over: each message is put aside
/// in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The server has closed it.
    #[error("the server has closed the connection")]
    Closed,
    /// It failed.
    #[error("the connection to the server failed")]
    Io(#[from] io::Error),
    /// A message made no sense.
    #[error("the server and this worker do not understand each other")]
    Message(#[from] MessageError),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and is interrupted each time before.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        is_interrupted: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_interrupted = !self.is_interrupted;
            if self.is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let some = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn two_texts_are_written_whole_however_little_is_taken_at_once() {
        for (first, second) in [("head", "a payload"), ("", "payload"), ("head", "")] {
            let mut slow = Slow::default();
            write_both(&mut slow, first.as_bytes(), second.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(slow.taken).unwrap(), format!("{first}{second}"));
        }
    }
}

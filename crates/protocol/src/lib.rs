//! What a server and a worker say to each other over their Unix socket pair.
//!
//! A [`Frame`] is a length-prefixed envelope: a kind, a MessagePack header and a raw payload. [`ToWorker`] and [`ToServer`]
//! are the messages in it. `docs/runtime-protocol.md` describes both for people who write a runtime in another language.

mod frame;
mod message;
mod wire;

pub use frame::{Frame, FrameError, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, PREFIX_BYTES, decode, decode_with, read_frame};
pub use message::{
    Answer, Artifact, Ask, AskError, AskId, CallError, CallId, Cancel, Done, File, Functions, GivenOutput, Hello, Item, Load,
    LoadFailed, Loaded, LogMessage, Operation, Outcome, Output, Outputs, ProgressMessage, RETURNS, Reply, ReplyOutcome, Request,
    Returned, Role, Run, StateEntry, ToServer, ToWorker, VectorLayout,
};
pub use wire::MessageError;

/// The version of the protocol, sent in [`Hello`]. A server refuses a worker of another version.
pub const PROTOCOL_VERSION: u32 = 1;

/// The file descriptor on which a worker finds its end of the socket pair.
pub const WORKER_FD: i32 = 3;

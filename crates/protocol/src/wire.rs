//! Puts messages into frames and takes them out again.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{Place, encode_head_with};
use crate::message::{GivenOutput, Outputs, ToServer, ToWorker};
use crate::{Frame, FrameError};

/// How deeply a header may be nested. Scripts' values may be nested to 100; the rest is for what is around them.
const MAX_DEPTH: usize = 128;

mod kind {
    pub(super) const LOAD: u16 = 1;
    pub(super) const OUTPUT: u16 = 2;
    pub(super) const RUN: u16 = 3;
    pub(super) const REPLY: u16 = 4;
    pub(super) const CANCEL: u16 = 5;

    pub(super) const HELLO: u16 = 101;
    pub(super) const LOADED: u16 = 102;
    pub(super) const LOAD_FAILED: u16 = 103;
    pub(super) const OUTPUTS: u16 = 104;
    pub(super) const DONE: u16 = 105;
    pub(super) const ASK: u16 = 106;
    pub(super) const PROGRESS: u16 = 107;
    pub(super) const LOG: u16 = 108;
    pub(super) const RETURNED: u16 = 109;
}

impl ToWorker {
    /// Appends the message to `buffer`, in its frame.
    ///
    /// # Errors
    ///
    /// [`MessageError::Encode`] if it cannot be packed, [`MessageError::Frame`] if it is too long; `buffer` is then unchanged.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), MessageError> {
        match self {
            Self::Load(load) => pack(buffer, kind::LOAD, load),
            Self::Output(output) => pack(buffer, kind::OUTPUT, output),
            Self::Run(run) => pack(buffer, kind::RUN, run),
            Self::Reply(reply) => pack(buffer, kind::REPLY, reply),
            Self::Cancel(cancel) => pack(buffer, kind::CANCEL, cancel),
        }
    }

    /// Puts the message into its frame.
    ///
    /// # Errors
    ///
    /// As [`ToWorker::encode`].
    pub fn to_frame(&self) -> Result<Frame, MessageError> {
        let mut buffer = BytesMut::new();
        self.encode(&mut buffer)?;
        Ok(Frame::whole(buffer))
    }

    /// Takes the message out of its frame.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the kind is unknown or the header is not what the kind wants.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        match frame.kind {
            kind::LOAD => unpack(frame).map(Self::Load),
            kind::OUTPUT => unpack(frame).map(Self::Output),
            kind::RUN => unpack(frame).map(Self::Run),
            kind::REPLY => unpack(frame).map(Self::Reply),
            kind::CANCEL => unpack(frame).map(Self::Cancel),
            unknown => Err(MessageError::UnknownKind(unknown)),
        }
    }
}

impl GivenOutput<'_> {
    /// Appends the call to `buffer`, as [`ToWorker::Output`] in its frame.
    ///
    /// # Errors
    ///
    /// As [`ToWorker::encode`].
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), MessageError> {
        pack(buffer, kind::OUTPUT, self)
    }
}

impl Outputs {
    /// Appends the answers to `buffer`, as [`ToServer::Outputs`] in its frame, whose payload of so many bytes is in a descriptor. That has
    /// to be sent with the frame's first byte.
    ///
    /// # Errors
    ///
    /// As [`ToWorker::encode`].
    pub fn encode_with_descriptor(&self, buffer: &mut BytesMut, payload_bytes: usize) -> Result<(), MessageError> {
        pack_before(buffer, kind::OUTPUTS, self, (Place::InDescriptor, payload_bytes))
    }
}

impl ToServer {
    /// Appends the message to `buffer`, in its frame.
    ///
    /// # Errors
    ///
    /// As [`ToWorker::encode`].
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), MessageError> {
        let payload = self.encode_head(buffer)?;
        buffer.put_slice(payload);
        Ok(())
    }

    /// Appends the message to `buffer`, in its frame, but for the frame's payload, which is returned and has to follow. A long one need
    /// not be copied so.
    ///
    /// # Errors
    ///
    /// As [`ToWorker::encode`].
    pub fn encode_head(&self, buffer: &mut BytesMut) -> Result<&[u8], MessageError> {
        let packed = match self {
            Self::Hello(hello) => pack(buffer, kind::HELLO, hello),
            Self::Loaded(loaded) => pack(buffer, kind::LOADED, loaded),
            Self::LoadFailed(failed) => pack(buffer, kind::LOAD_FAILED, failed),
            Self::Outputs(outputs, payload) => {
                return pack_before(buffer, kind::OUTPUTS, outputs, (Place::Follows, payload.len())).map(|()| &payload[..]);
            }
            Self::Done(done) => pack(buffer, kind::DONE, done),
            Self::Ask(ask) => pack(buffer, kind::ASK, ask),
            Self::Progress(progress) => pack(buffer, kind::PROGRESS, progress),
            Self::Log(log) => pack(buffer, kind::LOG, log),
            Self::Returned(returned) => pack(buffer, kind::RETURNED, returned),
        };
        packed.map(|()| &[][..])
    }

    /// Puts the message into its frame.
    ///
    /// # Errors
    ///
    /// As [`ToWorker::encode`].
    pub fn to_frame(&self) -> Result<Frame, MessageError> {
        let mut buffer = BytesMut::new();
        self.encode(&mut buffer)?;
        Ok(Frame::whole(buffer))
    }

    /// Takes the message out of its frame.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if the kind is unknown or the header is not what the kind wants.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        match frame.kind {
            kind::HELLO => unpack(frame).map(Self::Hello),
            kind::LOADED => unpack(frame).map(Self::Loaded),
            kind::LOAD_FAILED => unpack(frame).map(Self::LoadFailed),
            kind::OUTPUTS => unpack(frame).map(|outputs| Self::Outputs(outputs, frame.payload.clone())),
            kind::DONE => unpack(frame).map(Self::Done),
            kind::ASK => unpack(frame).map(Self::Ask),
            kind::PROGRESS => unpack(frame).map(Self::Progress),
            kind::LOG => unpack(frame).map(Self::Log),
            kind::RETURNED => unpack(frame).map(Self::Returned),
            unknown => Err(MessageError::UnknownKind(unknown)),
        }
    }
}

/// A whole frame, without a payload.
fn pack(buffer: &mut BytesMut, kind: u16, message: &impl Serialize) -> Result<(), MessageError> {
    pack_before(buffer, kind, message, (Place::Follows, 0))
}

/// A frame but for its payload.
fn pack_before(buffer: &mut BytesMut, kind: u16, message: &impl Serialize, payload: (Place, usize)) -> Result<(), MessageError> {
    encode_head_with(buffer, kind, payload, |mut writer| {
        rmp_serde::encode::write_named(&mut writer, message).map_err(MessageError::from)
    })
}

fn unpack<T: DeserializeOwned>(frame: &Frame) -> Result<T, MessageError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(&frame.header[..]);
    // The decoder's own limit is more than a thread's stack can take.
    reader.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut reader).map_err(|source| MessageError::Decode { kind: frame.kind, source })
}

/// Why a frame holds no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// A message of another version, or garbage.
    #[error("a frame has the unknown kind {0}")]
    UnknownKind(u16),
    /// The header does not fit its kind.
    #[error("the header of a frame of kind {kind} cannot be read")]
    Decode {
        /// The frame's kind.
        kind: u16,
        /// What is wrong with the header.
        source: rmp_serde::decode::Error,
    },
    /// The message cannot be packed.
    #[error("a message cannot be packed")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The packed message is too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dunnage_types::{Array, Dtype, JobId, JobKind, JsonObject, LogLevel, StateValue, VectorType, WorkerId};
    use serde_json::{Value, json};

    use super::*;
    use crate::message::*;

    fn object(value: Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    fn files() -> Vec<File> {
        vec![File { uri: "s3://b-1/k".into(), path: "/cache/1".into(), size: 3, etag: None }]
    }

    #[test]
    fn messages_to_a_worker_survive_the_wire() {
        let messages = [
            ToWorker::Load(Load {
                service: "gait".parse().unwrap(),
                worker: WorkerId(1),
                role: Role::Serving,
                script: "/srv/model.py".into(),
                artifact: Some(Artifact { version: 3, path: "/a/3".into() }),
                device: "cpu".into(),
                descriptors: true,
            }),
            ToWorker::Output(Output {
                call: CallId(1),
                deadline: Some(1.5),
                limit: Some(30.0),
                requests: vec![Request {
                    request_id: "r".into(),
                    files: files(),
                    params: object(json!({"a": [1, null, 2.5, "x"]})),
                }],
            }),
            ToWorker::Run(Run {
                call: CallId(2),
                deadline: None,
                kind: JobKind::Train,
                job: JobId::random(),
                attempt: 1,
                seed: 7,
                files: files(),
                params: JsonObject::new(),
            }),
            ToWorker::Reply(Reply { ask: AskId(1), outcome: ReplyOutcome::Ok(Answer::Nothing) }),
            ToWorker::Reply(Reply { ask: AskId(1), outcome: ReplyOutcome::Ok(Answer::Value(None)) }),
            ToWorker::Reply(Reply {
                ask: AskId(1),
                outcome: ReplyOutcome::Ok(Answer::Value(Some(StateValue::Bytes(vec![0, 255])))),
            }),
            ToWorker::Reply(Reply {
                ask: AskId(1),
                outcome: ReplyOutcome::Error(AskError { code: "unavailable".into(), message: "no".into() }),
            }),
            ToWorker::Cancel(Cancel { call: CallId(2) }),
        ];
        for message in messages {
            let frame = message.to_frame().unwrap();
            assert_eq!(ToWorker::from_frame(&frame).unwrap(), message);
        }
    }

    #[test]
    fn messages_to_the_server_survive_the_wire() {
        let array = StateValue::Array(Array { dtype: Dtype::F32, shape: vec![1], data: vec![0, 0, 128, 63] });
        let failure = CallError { traceback: Some("line 1".into()), ..CallError::new("script_error", "ValueError: no") };
        let messages = [
            ToServer::Hello(Hello {
                protocol: 1,
                runtime: "fake".into(),
                version: "0".into(),
                language: "none".into(),
                capabilities: vec!["state".into()],
            }),
            ToServer::Loaded(Loaded { functions: Functions { output: true, ..Functions::default() } }),
            ToServer::LoadFailed(LoadFailed { error: failure.clone() }),
            ToServer::Outputs(
                Outputs {
                    call: CallId(1),
                    items: vec![Item::Vector(VectorLayout { dtype: VectorType::F32, length: 1 }), Item::Error(failure.clone())],
                },
                Bytes::from_static(&[0, 0, 128, 63]),
            ),
            ToServer::Done(Done { call: CallId(2), outcome: Outcome::Ok(json!({"loss": 0.1})) }),
            ToServer::Done(Done { call: CallId(2), outcome: Outcome::Ok(Value::Null) }),
            ToServer::Done(Done { call: CallId(2), outcome: Outcome::Error(failure) }),
            ToServer::Ask(Ask { ask: AskId(1), call: None, operation: Operation::NewArtifact }),
            ToServer::Ask(Ask {
                ask: AskId(2),
                call: Some(CallId(2)),
                operation: Operation::StateCompareAndSet { key: "k".into(), old: None, new: Some(array) },
            }),
            ToServer::Progress(ProgressMessage { call: CallId(2), fraction: Some(0.5), message: None, metrics: JsonObject::new() }),
            ToServer::Log(LogMessage { call: None, level: LogLevel::Warning, message: "odd".into() }),
            ToServer::Returned(Returned { call: CallId(3) }),
        ];
        for message in messages {
            let frame = message.to_frame().unwrap();
            assert_eq!(ToServer::from_frame(&frame).unwrap(), message);
        }
    }

    #[test]
    fn a_call_whose_requests_stay_with_their_owner_is_written_like_any_other() {
        let request = Request { request_id: "r".into(), files: files(), params: object(json!({"a": 1})) };
        let given = GivenOutput { call: CallId(9), deadline: Some(1.5), limit: Some(2.0), requests: &[&request, &request] };
        let mut buffer = BytesMut::new();
        given.encode(&mut buffer).unwrap();
        let output =
            Output { call: CallId(9), deadline: Some(1.5), limit: Some(2.0), requests: vec![request.clone(), request.clone()] };
        assert_eq!(Frame::whole(buffer), ToWorker::Output(output).to_frame().unwrap());
    }

    #[test]
    fn a_message_that_fits_no_frame_leaves_nothing_behind() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let done = ToServer::Done(Done { call: CallId(1), outcome: Outcome::Ok(json!("x".repeat(crate::MAX_HEADER_BYTES))) });
        assert!(matches!(done.encode(&mut buffer), Err(MessageError::Frame(FrameError::TooLong { part: "header", .. }))));
        assert_eq!(buffer, b"before"[..]);
    }

    #[test]
    fn a_value_nested_too_deeply_is_refused_before_the_stack_is_used_up() {
        let done = |depth: usize| {
            let mut header = vec![0x82, 0xa4, b'c', b'a', b'l', b'l', 1, 0xa2, b'o', b'k'];
            header.extend(std::iter::repeat_n(0x91, depth));
            header.push(0xc0);
            ToServer::from_frame(&Frame { kind: kind::DONE, header: header.into(), payload: Bytes::new() })
        };
        assert!(done(100).is_ok());
        assert!(matches!(done(1_000_000), Err(MessageError::Decode { kind: kind::DONE, .. })));
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let header = rmp_serde::to_vec_named(&json!({"call": 4, "why": "later"})).unwrap();
        let frame = Frame { kind: kind::CANCEL, header: header.into(), payload: Bytes::new() };
        assert_eq!(ToWorker::from_frame(&frame).unwrap(), ToWorker::Cancel(Cancel { call: CallId(4) }));
    }
}

//! The messages. `wire` puts them into frames.

use std::path::PathBuf;

use bytes::Bytes;
use dunnage_types::{JobId, JobKind, JsonObject, LogLevel, ServiceName, StateValue, VectorType, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Numbers the calls of one worker; the worker repeats it in whatever belongs to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub u64);

/// Numbers the questions of one worker; the server repeats it in the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub u64);

/// What the server says to a worker. The worker exits when the server closes the connection.
#[derive(Debug, Clone, PartialEq)]
pub enum ToWorker {
    /// Load the script; sent once, in answer to [`ToServer::Hello`].
    Load(Load),
    /// Answer these requests.
    Output(Output),
    /// Run this job.
    Run(Run),
    /// The answer to an [`Ask`].
    Reply(Reply),
    /// The call is no longer wanted.
    Cancel(Cancel),
}

/// What a worker says to the server.
#[derive(Debug, Clone, PartialEq)]
pub enum ToServer {
    /// The first message, before anything is asked of the worker.
    Hello(Hello),
    /// The script is loaded; calls may come.
    Loaded(Loaded),
    /// The script cannot be loaded; the worker exits.
    LoadFailed(LoadFailed),
    /// The answers to an [`Output`], and the vectors' bytes one after the other.
    Outputs(Outputs, Bytes),
    /// The end of a [`Run`].
    Done(Done),
    /// A question that the script waits on.
    Ask(Ask),
    /// How far a job has come. Not answered.
    Progress(ProgressMessage),
    /// A line for the log. Not answered.
    Log(LogMessage),
    /// A call that was sent ahead and will not be begun.
    Returned(Returned),
}

/// The capability of a runtime that hands calls back which wait behind one that drags on, so that calls can be sent ahead to it.
pub const RETURNS: &str = "returns";

/// Who the worker is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of this protocol, [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The runtime's name, such as `dunnage-python`.
    pub runtime: String,
    /// The runtime's version.
    pub version: String,
    /// The language and its version, such as `CPython 3.11.7`.
    pub language: String,
    /// What the runtime can do beyond the minimum: `state`, `artifacts`, `cancel`, [`RETURNS`]. Unknown words are ignored.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers [`Output`]; also runs jobs where the service has no job workers.
    Serving,
    /// Runs jobs.
    Job,
}

/// The script and its surroundings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The service's name.
    pub service: ServiceName,
    /// The worker's number.
    pub worker: WorkerId,
    /// What the worker is for.
    pub role: Role,
    /// The script's absolute path.
    pub script: PathBuf,
    /// The active version's artifact, if there is one.
    pub artifact: Option<Artifact>,
    /// The device the script should compute on: `cpu`, `cuda:0`, …
    pub device: String,
    /// Whether the server takes payloads in descriptors. They may follow their headers all the same.
    #[serde(default)]
    pub descriptors: bool,
}

/// A version's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The version's number.
    pub version: u32,
    /// Its folder, to be read only.
    pub path: PathBuf,
}

/// The script's functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "one for each function a script may have")]
pub struct Functions {
    /// Whether there is a `train`.
    #[serde(default)]
    pub train: bool,
    /// Whether there is an `input`.
    #[serde(default)]
    pub input: bool,
    /// Whether there is an `output` or an `output_batch`.
    #[serde(default)]
    pub output: bool,
    /// Whether there is an `output_batch`, so that more than one request a call pays.
    #[serde(default)]
    pub output_batch: bool,
    /// Whether there is a `self_test`, which a serving worker has passed before it says so.
    #[serde(default)]
    pub self_test: bool,
}

/// The script is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Which functions it has.
    pub functions: Functions,
}

/// The script cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailed {
    /// Why.
    pub error: CallError,
}

/// One file, on the worker's own disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The address the client gave.
    pub uri: String,
    /// Where its bytes are, to be read only.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Changes whenever the contents do, where the source has such a mark.
    #[serde(default)]
    pub etag: Option<String>,
}

/// A batch of requests for `output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The call's number.
    pub call: CallId,
    /// When the worker will be killed, if the call begins at once: seconds since 1970-01-01 UTC.
    pub deadline: Option<f64>,
    /// How many seconds the call may take from when it begins. A call that was sent ahead begins later than it is sent.
    #[serde(default)]
    pub limit: Option<f64>,
    /// The requests, in no particular order. Never empty; more than one only for scripts with `output_batch`.
    pub requests: Vec<Request>,
}

/// An [`Output`] whose requests stay with their owner. Written like one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GivenOutput<'a> {
    /// As in [`Output`].
    pub call: CallId,
    /// As in [`Output`].
    pub deadline: Option<f64>,
    /// As in [`Output`].
    pub limit: Option<f64>,
    /// As in [`Output`].
    pub requests: &'a [&'a Request],
}

/// One request for `output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Names the request in logs; also in the answer's `X-Request-Id`.
    pub request_id: String,
    /// Its files.
    pub files: Vec<File>,
    /// The client's `Params`.
    #[serde(default)]
    pub params: JsonObject,
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The call's number.
    pub call: CallId,
    /// When the worker will be killed: seconds since 1970-01-01 UTC.
    pub deadline: Option<f64>,
    /// Which function to call.
    pub kind: JobKind,
    /// The job.
    pub job: JobId,
    /// Which attempt at it this is, from 1.
    pub attempt: u32,
    /// The same for every attempt at the job.
    pub seed: u32,
    /// Its files.
    pub files: Vec<File>,
    /// The client's `Params`.
    #[serde(default)]
    pub params: JsonObject,
}

/// The answers to an [`Output`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// The call's number.
    pub call: CallId,
    /// One answer a request, in the same order.
    pub items: Vec<Item>,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// A vector; its bytes are the next ones in the payload.
    Vector(VectorLayout),
    /// The script failed on this request.
    Error(CallError),
}

/// What the next bytes of a payload are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorLayout {
    /// The type of the elements.
    pub dtype: VectorType,
    /// How many elements there are.
    pub length: u64,
}

/// The end of a [`Run`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The call's number.
    pub call: CallId,
    /// What the script returned (`null` for nothing), or how it failed.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a job's script ended, as `{"ok": …}` or `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What it returned.
    Ok(Value),
    /// How it failed.
    Error(CallError),
}

/// How a script failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallError {
    /// A stable code: `script_error`, `function_missing`, `bad_output`, `bad_result`, `script_retry`, `script_cancelled`,
    /// `load_failed` or `self_test_failed`.
    pub code: String,
    /// One sentence; for an exception its type and text.
    pub message: String,
    /// The language's own account of where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// For `script_retry`: how many seconds to wait before the next attempt, where the script says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
}

impl Eq for CallError {}

impl CallError {
    /// An error of the given code, without a traceback.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), ..Self::default() }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The question's number.
    pub ask: AskId,
    /// The call whose script asks; `None` while the script is being loaded.
    #[serde(default)]
    pub call: Option<CallId>,
    /// What is asked.
    pub operation: Operation,
}

/// What a worker may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The value of a key; answered by [`Answer::Value`].
    StateGet {
        /// The key.
        key: String,
    },
    /// Sets a key; answered by [`Answer::Nothing`].
    StateSet {
        /// The key.
        key: String,
        /// Its new value.
        value: StateValue,
    },
    /// Removes a key; answered by [`Answer::Flag`]: whether it was there.
    StateDelete {
        /// The key.
        key: String,
    },
    /// Adds to a number, which counts as 0 when absent; answered by [`Answer::Number`], the sum.
    StateIncrement {
        /// The key.
        key: String,
        /// What to add.
        by: Number,
    },
    /// Sets a key if it has the expected value; answered by [`Answer::Flag`]: whether it was set.
    StateCompareAndSet {
        /// The key.
        key: String,
        /// The expected value; `None` expects the key to be absent.
        old: Option<StateValue>,
        /// The new value; `None` removes the key.
        new: Option<StateValue>,
    },
    /// The entries whose keys begin with a prefix, in byte order; answered by [`Answer::Entries`].
    StateScan {
        /// The prefix.
        prefix: String,
        /// Only keys behind this one.
        after: Option<String>,
        /// At most so many.
        limit: u32,
    },
    /// A fresh folder for what training makes; answered by [`Answer::Path`]. The same folder for the whole attempt.
    NewArtifact,
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The question's number.
    pub ask: AskId,
    /// The answer, or why there is none.
    #[serde(flatten)]
    pub outcome: ReplyOutcome,
}

/// Either of a reply's two forms, as `{"ok": …}` or `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyOutcome {
    /// The answer.
    Ok(Answer),
    /// Why there is none.
    Error(AskError),
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Nothing,
    /// Yes or no.
    Flag(bool),
    /// A value, or `None` if there is none.
    Value(Option<StateValue>),
    /// A number.
    Number(Number),
    /// Some entries, perhaps fewer than asked for; none means that there are no more.
    Entries(Vec<StateEntry>),
    /// A folder.
    Path(PathBuf),
}

/// One entry of the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateEntry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: StateValue,
}

/// Why a question has no answer. The script sees it as an exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AskError {
    /// A stable code: `not_a_number`, `key_invalid`, `value_too_large`, `superseded`, `unavailable`, `not_allowed`.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// The call is no longer wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The call's number.
    pub call: CallId,
}

/// A call that waits behind one that drags on. The worker has not begun it and never will: another may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// The call's number, that of an [`Output`].
    pub call: CallId,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressMessage {
    /// The call's number.
    pub call: CallId,
    /// From 0 to 1, where the script knows it.
    #[serde(default)]
    pub fraction: Option<f64>,
    /// A short text for people.
    #[serde(default)]
    pub message: Option<String>,
    /// Numbers worth watching.
    #[serde(default)]
    pub metrics: JsonObject,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMessage {
    /// The call it belongs to, if any.
    #[serde(default)]
    pub call: Option<CallId>,
    /// How serious it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

//! A job: a durable `train` or `input`, its states, and what it leaves behind.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{FileAddress, JobId, JsonObject, Timestamp, Version};

/// Which of the script's functions a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// `POST /train`: teaches the model; may publish a version.
    Train,
    /// `POST /input`: feeds ordinary data.
    Input,
}

impl JobKind {
    /// The word used in the API, the database and the script.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Input => "input",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for JobKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Train, Self::Input].into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// Where a job stands. `Done`, `Error` and `Cancelled` are terminal: they never change again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Committed and waiting, for a free job worker or for the time of its next attempt. A claim moves it on. A crash
    /// leaves it as it is.
    Queued,
    /// Held under a lease by one attempt. The holder finishes, releases or fails it; when the holder is lost the lease
    /// expires and the job is rescued.
    Running,
    /// The script returned. The row is removed when retention ends.
    Done,
    /// The script raised, or the attempts ran out. The row is removed when retention ends.
    Error,
    /// A client cancelled it. The row is removed when retention ends.
    Cancelled,
}

impl JobState {
    /// Every state, in the order a job passes through them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Error, Self::Cancelled];

    /// The word used in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the state can never change again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Error | Self::Cancelled)
    }

    /// The word `GET /status` answers for this state.
    #[must_use]
    pub fn status(self) -> JobStatus {
        match self {
            Self::Queued | Self::Running => JobStatus::Running,
            Self::Done => JobStatus::Done,
            Self::Error | Self::Cancelled => JobStatus::Error,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// A word that names no job kind, state or source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of the known words")]
pub struct UnknownWord(pub String);

/// The three words `GET /status` may answer, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Queued or running.
    Running,
    /// Finished well.
    Done,
    /// Failed or cancelled.
    Error,
}

/// Everything the store knows of one job, less its log.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What it runs.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// The files it was given, in the client's order.
    pub files: Vec<FileAddress>,
    /// The client's `Params`; empty when there were none.
    pub params: JsonObject,
    /// Jobs of the same key run one at a time, in the order they were submitted.
    pub key: Option<String>,
    /// How many attempts have been started; counted when claimed.
    pub attempt: u32,
    /// How many attempts may be started.
    pub max_attempts: u32,
    /// The last progress the script reported in the newest attempt.
    pub progress: Option<Progress>,
    /// Why the newest attempt failed, if it did.
    pub error: Option<JobError>,
    /// What the script returned.
    pub result: Option<Value>,
    /// The version this job published.
    pub version: Option<Version>,
    /// Whether a client has asked for it to be cancelled.
    pub cancel_requested: bool,
    /// Whom to tell of its end, if the client asked for that.
    pub callback: Option<Callback>,
    /// The object that its result is written to before it ends as done, if the client asked for that; always of the S3 form.
    pub output_uri: Option<FileAddress>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When the newest attempt was claimed.
    pub started_at: Option<Timestamp>,
    /// When it reached a terminal state.
    pub finished_at: Option<Timestamp>,
}

/// The webhook of a job, and how far its delivery has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Where to post the end of the job to.
    pub url: String,
    /// Where its delivery stands.
    pub state: CallbackState,
    /// How many deliveries have been begun; counted when begun.
    pub attempts: u32,
    /// Why the newest delivery failed, if it did.
    pub error: Option<String>,
}

/// Where the delivery of a callback stands. `Delivered` and `Failed` never change again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallbackState {
    /// The job has not ended, or its end is being delivered. A crash leaves it as it is, and another replica delivers it.
    Pending,
    /// The receiver has answered with a 2xx status. It may have been told more than once.
    Delivered,
    /// Every attempt failed; nobody tries again.
    Failed,
}

impl CallbackState {
    /// The word used in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for CallbackState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for CallbackState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let all = [Self::Pending, Self::Delivered, Self::Failed];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable code, listed in `docs/errors.md`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The script's own traceback, where it raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

/// What a script says of how far it has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 1, where the script knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// A short text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Numbers worth watching, such as the loss.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub metrics: JsonObject,
}

/// Where a line of a job's log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// `ctx.log` or the language's logging library.
    Log,
    /// Printed to standard output.
    Stdout,
    /// Printed to standard error, native libraries included.
    Stderr,
    /// Said by the server about the job.
    Server,
}

impl LogSource {
    /// The word used in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Server => "server",
        }
    }
}

impl FromStr for LogSource {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Log, Self::Stdout, Self::Stderr, Self::Server]
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For whoever debugs the script.
    Debug,
    /// The ordinary course of things.
    Info,
    /// Odd, but the call goes on.
    Warning,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// The word used in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl FromStr for LogLevel {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Debug, Self::Info, Self::Warning, Self::Error]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// One kept line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Rises by one with each line of the job; a reader resumes after the last it saw.
    pub sequence: u64,
    /// When the server received it.
    pub at: Timestamp,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// Where it came from.
    pub source: LogSource,
    /// How serious it is.
    pub level: LogLevel,
    /// The text, without its line end.
    pub message: String,
}

/// A line to be appended to a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLogLine {
    /// When the server received it.
    pub at: Timestamp,
    /// Where it came from.
    pub source: LogSource,
    /// How serious it is.
    pub level: LogLevel,
    /// The text, without its line end.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_from_its_word() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }

    #[test]
    fn status_knows_three_words_only() {
        let words: Vec<_> = JobState::ALL.iter().map(|state| serde_json::to_string(&state.status()).unwrap()).collect();
        assert_eq!(words, ["\"running\"", "\"running\"", "\"done\"", "\"error\"", "\"error\""]);
    }
}

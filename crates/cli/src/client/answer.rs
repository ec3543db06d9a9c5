//! The shapes of the service's answers, as far as the commands look at them.

use dunnage_types::{CallbackState, JobId, JobKind, JobState, JsonObject, LogLine, Progress, Timestamp, Version, VersionState};
use serde::Deserialize;
use serde_json::Value;

/// `POST /train` and `POST /input`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Submitted {
    pub(crate) job_id: JobId,
}

/// `POST /output`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    pub(crate) output_vector: Vec<Value>,
}

/// `GET /status` and `GET /jobs/{id}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    pub(crate) job_id: JobId,
    pub(crate) kind: JobKind,
    pub(crate) state: JobState,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) progress: Option<Progress>,
    pub(crate) error: Option<JobError>,
    pub(crate) result: Option<Value>,
    pub(crate) version: Option<Version>,
    pub(crate) key: Option<String>,
    pub(crate) callback: Option<Callback>,
    pub(crate) output_uri: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    /// Only in `/jobs/{id}`.
    pub(crate) files: Option<Vec<String>>,
    /// Only in `/jobs/{id}`.
    pub(crate) params: Option<JsonObject>,
}

/// Why a job failed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct JobError {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// How far a job's callback has come.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Callback {
    pub(crate) url: String,
    pub(crate) state: CallbackState,
    pub(crate) attempts: u32,
    pub(crate) error: Option<String>,
}

/// `GET /jobs`.
#[derive(Debug, Deserialize)]
pub(crate) struct Jobs {
    pub(crate) jobs: Vec<Job>,
}

/// `GET /jobs/{id}/logs`.
#[derive(Debug, Deserialize)]
pub(crate) struct Logs {
    pub(crate) lines: Vec<LogLine>,
    /// How far the page goes; beyond its last line where others may not be seen.
    #[serde(default)]
    pub(crate) next: u64,
}

/// `GET /models`.
#[derive(Debug, Deserialize)]
pub(crate) struct Models {
    pub(crate) versions: Vec<ModelVersion>,
    #[serde(default)]
    pub(crate) replicas: Vec<Replica>,
}

/// One replica in `GET /models`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) is_this: bool,
    pub(crate) serving: Option<Version>,
    pub(crate) ready: bool,
    pub(crate) error: Option<String>,
    pub(crate) started_at: Timestamp,
}

/// One version in `GET /models`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelVersion {
    pub(crate) version: Version,
    pub(crate) state: VersionState,
    pub(crate) active: bool,
    pub(crate) job: JobId,
    pub(crate) created_at: Timestamp,
    pub(crate) error: Option<String>,
}

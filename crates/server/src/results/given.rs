//! What tests of results begin with.

use dunnage_types::{Job, JobId, JobKind, JobState, JsonObject, Timestamp};

pub(super) const ADDRESS: &str = "s3://results/1.json";

/// A job in its second attempt.
pub(super) fn job() -> Job {
    Job {
        id: JobId::from(uuid::Uuid::nil()),
        kind: JobKind::Train,
        state: JobState::Running,
        files: Vec::new(),
        params: JsonObject::new(),
        key: None,
        attempt: 2,
        max_attempts: 3,
        progress: None,
        error: None,
        result: None,
        version: None,
        cancel_requested: false,
        callback: None,
        output_uri: ADDRESS.parse().ok(),
        created_at: Timestamp(0),
        started_at: Some(Timestamp(0)),
        finished_at: None,
    }
}

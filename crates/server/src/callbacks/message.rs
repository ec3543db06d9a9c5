//! What a callback says.

use dunnage_types::{Job, Timestamp};
use serde::Serialize;

use crate::routes::status::StatusBody;

/// The end of a job, ready to be posted.
pub(super) struct Message {
    /// The same in every attempt, so that receivers know what they have seen.
    pub(super) id: String,
    /// JSON.
    pub(super) body: String,
}

/// The body's shape, as Standard Webhooks recommends it.
#[derive(Serialize)]
struct Event {
    r#type: String,
    timestamp: Timestamp,
    data: StatusBody,
}

impl Message {
    pub(super) fn of(job: Job) -> Self {
        let id = format!("msg_{}", job.id);
        let timestamp = job.finished_at.unwrap_or_else(Timestamp::now);
        let event = Event { r#type: format!("job.{}", job.state), timestamp, data: StatusBody::from(job) };
        // What has been read from the store always has a JSON form.
        Self { id, body: serde_json::to_string(&event).unwrap_or_default() }
    }
}

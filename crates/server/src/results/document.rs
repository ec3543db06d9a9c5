//! What is written to a result's object.

use bytes::Bytes;
use dunnage_types::{Job, JobId, JobKind, JobState, JobStatus, Version};
use serde::Serialize;
use serde_json::Value;

/// The document, its fields named and filled like those of `GET /status` at the end of the job. Described in `docs/results.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    job_id: JobId,
    kind: JobKind,
    status: JobStatus,
    attempt: u32,
    result: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
}

/// The document of a job whose attempt has come to `result`, and has published `version` if any.
///
/// # Errors
///
/// If the result has no JSON form, which what has come as JSON always has.
pub(super) fn of(job: &Job, result: &Value, version: Option<Version>) -> serde_json::Result<Bytes> {
    let status = JobState::Done.status();
    let document = Document { job_id: job.id, kind: job.kind, status, attempt: job.attempt, result, version };
    serde_json::to_vec(&document).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::given::job;
    use super::*;

    #[test]
    fn a_document_reads_like_the_status_of_the_job() {
        let text = |result, version| String::from_utf8(of(&job(), &result, version).unwrap().to_vec()).unwrap();
        let id = "00000000-0000-0000-0000-000000000000";
        assert_eq!(
            text(json!({"loss": 0.5}), Version::new(7)),
            format!(r#"{{"jobId":"{id}","kind":"train","status":"done","attempt":2,"result":{{"loss":0.5}},"version":7}}"#)
        );
        assert_eq!(
            text(Value::Null, None),
            format!(r#"{{"jobId":"{id}","kind":"train","status":"done","attempt":2,"result":null}}"#)
        );
    }
}

//! What scenarios begin with.

use std::time::Duration;

use dunnage_types::{Job, JobError, JobId, JobKind, JsonObject, LogLevel, LogSource, NewLogLine, Progress, ReplicaId, Timestamp};
use serde_json::{Value, json};

use crate::{ClaimedJob, Enqueued, Finish, JobFilter, Lease, NewJob, Store, StoreError, Terms};

/// Longer than any test takes.
pub(super) const LEASE: Duration = Duration::from_mins(10);

/// A lease for that long, for an attempt that may take a hundred times as long.
pub(super) const TERMS: Terms = Terms { lease: LEASE, limit: LEASE.saturating_mul(100) };

pub(super) fn new_job() -> NewJob {
    NewJob {
        id: JobId::random(),
        kind: JobKind::Train,
        files: Vec::new(),
        params: JsonObject::new(),
        key: None,
        idempotency: None,
        callback: None,
        output_uri: None,
        max_attempts: 3,
    }
}

pub(super) fn job_with_key(key: &str) -> NewJob {
    NewJob { key: Some(key.to_owned()), ..new_job() }
}

/// Commits a job that must be new.
pub(super) async fn enqueue(store: &dyn Store, job: NewJob) -> JobId {
    let id = job.id;
    assert_eq!(store.enqueue(job).await.unwrap(), Enqueued::Created(id));
    id
}

/// Claims what is due, up to 100 jobs.
pub(super) async fn claim_all(store: &dyn Store) -> Vec<ClaimedJob> {
    store.claim(ReplicaId::random(), 100, TERMS).await.unwrap()
}

/// Claims the only job that is due.
pub(super) async fn claim_one(store: &dyn Store) -> ClaimedJob {
    let mut claimed = claim_all(store).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

/// Commits a job and claims it.
pub(super) async fn running(store: &dyn Store) -> Lease {
    let id = enqueue(store, new_job()).await;
    let claimed = claim_one(store).await;
    assert_eq!(claimed.lease.job, id);
    claimed.lease
}

pub(super) async fn job(store: &dyn Store, id: JobId) -> Job {
    store.job(id).await.unwrap().expect("the job is there")
}

/// Commits a job and brings it to its end.
pub(super) async fn ended(store: &dyn Store, finish: Finish) -> JobId {
    let lease = running(store).await;
    store.finish(lease, finish).await.unwrap();
    lease.job
}

pub(super) fn done() -> Finish {
    Finish::Done { result: json!({"accuracy": 0.5}), activate: None }
}

pub(super) fn error(code: &str) -> JobError {
    JobError { code: code.to_owned(), message: format!("it was {code}"), traceback: Some("line 1".to_owned()) }
}

pub(super) fn retry_after(after: Duration) -> Finish {
    Finish::Retry { error: error("worker_crashed"), after }
}

pub(super) fn line(message: &str) -> NewLogLine {
    NewLogLine { at: Timestamp::now(), source: LogSource::Log, level: LogLevel::Info, message: message.to_owned() }
}

pub(super) fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

pub(super) fn half_way() -> Progress {
    Progress { fraction: Some(0.5), message: Some("half".to_owned()), metrics: object(json!({"loss": 0.1})) }
}

pub(super) fn first_jobs(limit: u32) -> JobFilter {
    JobFilter { limit, ..JobFilter::default() }
}

pub(super) fn assert_superseded<T: std::fmt::Debug>(result: Result<T, StoreError>, what: &str) {
    assert!(matches!(result, Err(StoreError::Superseded(_))), "{what}: {result:?}");
}

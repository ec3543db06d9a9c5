//! Committing jobs.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{FileAddress, Job, JobId, JobKind, JobState};
use serde_json::json;
use tokio::task::JoinSet;

use super::Bench;
use super::given::{claim_all, done, enqueue, first_jobs, job, new_job, object};
use crate::{Enqueued, Idempotency, NewJob, StoreError};

pub async fn a_job_is_kept_as_it_was_given(bench: &mut dyn Bench) {
    let store = bench.store();
    let files: Vec<FileAddress> = ["s3://faces/b.bin?versionId=7", "s3://faces/a b.bin"].map(|text| text.parse().unwrap()).to_vec();
    let params = object(json!({"rate": 0.1, "layers": [1, 2], "name": null}));
    let new = NewJob {
        kind: JobKind::Input,
        files: files.clone(),
        params: params.clone(),
        key: Some("user 1".to_owned()),
        max_attempts: 5,
        ..new_job()
    };
    let id = enqueue(&*store, new).await;
    let kept = job(&*store, id).await;
    let expected = Job {
        id,
        kind: JobKind::Input,
        state: JobState::Queued,
        files,
        params,
        key: Some("user 1".to_owned()),
        attempt: 0,
        max_attempts: 5,
        progress: None,
        error: None,
        result: None,
        version: None,
        cancel_requested: false,
        callback: None,
        created_at: kept.created_at,
        started_at: None,
        finished_at: None,
    };
    assert_eq!(kept, expected);
}

pub async fn a_commit_repeated_with_its_id_makes_no_second_job(bench: &mut dyn Bench) {
    let store = bench.store();
    let new = new_job();
    enqueue(&*store, new.clone()).await;
    assert_eq!(store.enqueue(new.clone()).await.unwrap(), Enqueued::Existing(new.id));
    assert_eq!(store.jobs(&first_jobs(10)).await.unwrap().jobs.len(), 1);
    assert_eq!(claim_all(&*store).await.len(), 1);
}

pub async fn a_repeated_request_finds_its_job(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, request("key", b"digest")).await;
    for _ in 0..3 {
        assert_eq!(store.enqueue(request("key", b"digest")).await.unwrap(), Enqueued::Existing(first));
    }
    enqueue(&*store, request("another key", b"digest")).await;
    enqueue(&*store, new_job()).await;
    assert_eq!(store.backlog().await.unwrap().queued, 3);
}

pub async fn another_request_under_the_same_idempotency_key_is_refused(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, request("key", b"digest")).await;
    let other = store.enqueue(request("key", b"other digest")).await;
    assert!(matches!(other, Err(StoreError::IdempotencyMismatch)), "{other:?}");
    assert_eq!(store.enqueue(request("key", b"digest")).await.unwrap(), Enqueued::Existing(first));
    assert_eq!(store.backlog().await.unwrap().queued, 1);
}

pub async fn concurrent_requests_under_one_idempotency_key_make_one_job(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        requests.spawn(async move { store.enqueue(request("key", b"digest")).await.unwrap() });
    }
    let answers = requests.join_all().await;
    let created: Vec<JobId> =
        answers.iter().filter_map(|answer| if let Enqueued::Created(id) = answer { Some(*id) } else { None }).collect();
    assert_eq!(created.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Created(id) | Enqueued::Existing(id) if *id == created[0])));
    assert_eq!(store.backlog().await.unwrap().queued, 1);
}

/// In `prune`'s company: the key is free again only when the job's retention has ended.
pub async fn an_idempotency_key_lives_as_long_as_its_job(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, request("key", b"digest")).await;
    let lease = claim_all(&*store).await.remove(0).lease;
    store.finish(lease, done()).await.unwrap();
    assert_eq!(store.enqueue(request("key", b"digest")).await.unwrap(), Enqueued::Existing(first));
    bench.advance(Duration::from_secs(60)).await;
    assert_eq!(store.prune(Duration::from_secs(30), 10).await.unwrap().len(), 1);
    let second = enqueue(&*store, request("key", b"other digest")).await;
    assert_ne!(first, second);
}

fn request(key: &str, digest: &[u8]) -> NewJob {
    NewJob { idempotency: Some(Idempotency { key: key.to_owned(), digest: digest.to_vec() }), ..new_job() }
}

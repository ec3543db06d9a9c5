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
        output_uri: Some(object_of("ä b/result.json")),
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
        output_uri: Some(object_of("ä b/result.json")),
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

/// Calls that come together may share a statement; some have an address and some have none.
pub async fn jobs_committed_together_keep_each_its_own_output_uri(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut commits = JoinSet::new();
    for number in 0..60 {
        let store = store.clone();
        let output_uri = (number % 3 != 0).then(|| object_of(&format!("{number}.json")));
        commits.spawn(async move { (enqueue(&*store, NewJob { output_uri: output_uri.clone(), ..new_job() }).await, output_uri) });
    }
    let committed = commits.join_all().await;
    for (id, output_uri) in &committed {
        assert_eq!(job(&*store, *id).await.output_uri, *output_uri);
    }
    let claimed = claim_all(&*store).await;
    assert_eq!(claimed.len(), committed.len());
    for claimed in claimed {
        assert!(committed.contains(&(claimed.job.id, claimed.job.output_uri.clone())), "{claimed:?}");
    }
}

pub async fn a_repeated_request_leaves_the_output_uri_as_it_was(bench: &mut dyn Bench) {
    let store = bench.store();
    let with = |key: &str| NewJob { output_uri: Some(object_of(key)), ..request("key", b"digest") };
    let first = enqueue(&*store, with("first.json")).await;
    // A key that ends with `/` is completed by each caller with the id it drew.
    assert_eq!(store.enqueue(with("second.json")).await.unwrap(), Enqueued::Existing(first));
    assert_eq!(job(&*store, first).await.output_uri, Some(object_of("first.json")));
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

fn object_of(key: &str) -> FileAddress {
    FileAddress::S3 { bucket: "results".to_owned(), key: key.to_owned(), version_id: None }
}

fn request(key: &str, digest: &[u8]) -> NewJob {
    NewJob { idempotency: Some(Idempotency { key: key.to_owned(), digest: digest.to_vec() }), ..new_job() }
}

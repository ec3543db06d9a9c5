//! Looking ahead at what will be claimed.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{Job, JobId, JobState};

use super::Bench;
use super::given::{claim_all, claim_one, done, enqueue, job_with_key, new_job, retry_after};
use crate::Store;

pub async fn the_jobs_that_wait_are_those_that_the_next_claim_takes(bench: &mut dyn Bench) {
    let store = bench.store();
    assert_eq!(store.waiting(10).await.unwrap(), []);
    for key in ["a", "b", "a", "c", "b"] {
        enqueue(&*store, job_with_key(key)).await;
        enqueue(&*store, new_job()).await;
    }
    let cancelled = enqueue(&*store, new_job()).await;
    store.cancel(cancelled).await.unwrap();
    enqueue(&*bench.other_service(), new_job()).await;

    let waiting = store.waiting(100).await.unwrap();
    assert!(waiting.iter().all(|job| (job.state, job.attempt) == (JobState::Queued, 0)), "{waiting:?}");
    assert_eq!(store.waiting(100).await.unwrap(), waiting, "looking claims nothing");
    assert_eq!(waiting.len(), 8, "five without a key, and the first of each of three keys");
    let claimed = claim_all(&*store).await;
    assert_eq!(ids(&waiting), claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>());
    assert_eq!(store.waiting(100).await.unwrap(), [], "the others are behind what runs");
}

pub async fn no_more_waiting_jobs_are_told_than_asked_for(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut committed = Vec::new();
    for _ in 0..4 {
        committed.push(enqueue(&*store, new_job()).await);
    }
    for limit in [0, 1, 3, 4, 5] {
        assert_eq!(waiting(&*store, limit).await, committed[..committed.len().min(limit as usize)], "limit {limit}");
    }
    assert_eq!(waiting(&*store, u32::MAX).await, committed);
}

pub async fn a_job_waits_to_be_claimed_once_it_is_due_and_first_of_its_key(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, job_with_key("user")).await;
    let second = enqueue(&*store, job_with_key("user")).await;
    assert_eq!(waiting(&*store, 10).await, [first]);
    let lease = claim_one(&*store).await.lease;
    assert_eq!(waiting(&*store, 10).await, [], "the first runs");
    store.finish(lease, retry_after(Duration::from_secs(60))).await.unwrap();
    assert_eq!(waiting(&*store, 10).await, [], "the first is not due, and the second is behind it");
    bench.advance(Duration::from_secs(60)).await;
    assert_eq!(waiting(&*store, 10).await, [first]);
    let again = claim_one(&*store).await.lease;
    store.finish(again, done()).await.unwrap();
    assert_eq!(waiting(&*store, 10).await, [second]);
}

async fn waiting(store: &dyn Store, limit: u32) -> Vec<JobId> {
    ids(&store.waiting(limit).await.unwrap())
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

//! Handing out jobs.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::collections::HashSet;
use std::time::Duration;

use dunnage_types::{JobId, JobState, ReplicaId};
use tokio::task::JoinSet;

use super::Bench;
use super::given::{TERMS, claim_all, claim_one, done, enqueue, job, job_with_key, new_job, retry_after};
use crate::ClaimedJob;

pub async fn jobs_are_claimed_in_the_order_of_their_commits(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut committed = Vec::new();
    for _ in 0..20 {
        committed.push(enqueue(&*store, new_job()).await);
    }
    assert_eq!(ids(&claim_all(&*store).await), committed);
}

pub async fn a_claim_takes_no_more_than_its_limit(bench: &mut dyn Bench) {
    let store = bench.store();
    for _ in 0..5 {
        enqueue(&*store, new_job()).await;
    }
    for (limit, expected) in [(0, 0), (2, 2), (1, 1), (10, 2), (10, 0)] {
        assert_eq!(store.claim(ReplicaId::random(), limit, TERMS).await.unwrap().len(), expected, "limit {limit}");
    }
}

pub async fn a_claim_starts_an_attempt(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, new_job()).await;
    let claimed = claim_one(&*store).await;
    assert_eq!(claimed.lease.job, id);
    assert_eq!((claimed.job.state, claimed.job.attempt), (JobState::Running, 1));
    assert!(claimed.job.started_at.is_some_and(|started| started >= claimed.job.created_at));
    assert_eq!(job(&*store, id).await, claimed.job, "what is claimed is what is kept");
}

pub async fn no_job_is_claimed_twice(bench: &mut dyn Bench) {
    let store = bench.store();
    for _ in 0..40 {
        enqueue(&*store, new_job()).await;
    }
    let mut claims = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        claims.spawn(async move {
            let replica = ReplicaId::random();
            let mut mine = Vec::new();
            loop {
                match store.claim(replica, 3, TERMS).await.unwrap() {
                    claimed if claimed.is_empty() => return mine,
                    claimed => mine.extend(ids(&claimed)),
                }
            }
        });
    }
    let claimed: Vec<JobId> = claims.join_all().await.concat();
    assert_eq!((claimed.len(), claimed.iter().collect::<HashSet<_>>().len()), (40, 40));
}

pub async fn jobs_of_a_key_run_one_at_a_time_in_order(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut committed = Vec::new();
    for _ in 0..4 {
        committed.push(enqueue(&*store, job_with_key("user")).await);
    }
    for id in committed {
        let claimed = claim_one(&*store).await;
        assert_eq!(claimed.lease.job, id);
        assert!(claim_all(&*store).await.is_empty(), "the next of the key waits for this one");
        store.finish(claimed.lease, done()).await.unwrap();
    }
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn a_key_holds_up_no_other_jobs(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, job_with_key("a")).await;
    enqueue(&*store, job_with_key("a")).await;
    let other = enqueue(&*store, job_with_key("b")).await;
    let without = enqueue(&*store, new_job()).await;
    assert_eq!(ids(&claim_all(&*store).await), [first, other, without]);
    let later = enqueue(&*store, new_job()).await;
    assert_eq!(claim_one(&*store).await.lease.job, later);
}

pub async fn a_job_waits_for_the_retry_of_an_earlier_one_of_its_key(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, job_with_key("user")).await;
    let second = enqueue(&*store, job_with_key("user")).await;
    let lease = claim_one(&*store).await.lease;
    store.finish(lease, retry_after(Duration::from_secs(60))).await.unwrap();
    assert!(claim_all(&*store).await.is_empty(), "the first is not due, and the second is behind it");
    bench.advance(Duration::from_secs(60)).await;
    let again = claim_one(&*store).await.lease;
    assert_eq!(again.job, first);
    store.finish(again, done()).await.unwrap();
    assert_eq!(claim_one(&*store).await.lease.job, second);
}

fn ids(claimed: &[ClaimedJob]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.job.id).collect()
}

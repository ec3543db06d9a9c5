//! Handing out jobs with their commits.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{JobId, JobKind, JobState, ReplicaId};
use futures_util::future::join_all;

use super::Bench;
use super::given::{LEASE, TERMS, claim_all, claim_one, done, enqueue, job, job_with_key, new_job, running};
use crate::{ClaimedJob, Committed, Enqueued, Finish, Idempotency, NewJob, Store, StoreError};

/// Longer than a job may be passed by.
const LONG: Duration = Duration::from_secs(1);

pub async fn a_job_is_handed_out_with_its_commit(bench: &mut dyn Bench) {
    let store = bench.store();
    let new = NewJob { callback: Some("https://example.com/done".to_owned()), ..input() };
    let claimed = handed_out(&*store, new.clone()).await;
    assert_eq!(claimed.job, job(&*store, new.id).await, "it is as it was committed");
    assert_eq!((claimed.job.state, claimed.job.attempt, claimed.lease.number), (JobState::Running, 1, 1));
    assert_eq!(claim_all(&*store).await, [], "nobody else gets it");
    store.renew(claimed.lease, LEASE).await.unwrap();
    store.finish(claimed.lease, done()).await.unwrap();
    assert_eq!(job(&*store, new.id).await.state, JobState::Done);
}

pub async fn a_job_handed_out_with_its_commit_is_rescued_like_any_other(bench: &mut dyn Bench) {
    let store = bench.store();
    let lost = handed_out(&*store, input()).await;
    bench.advance(LEASE + LONG).await;
    assert_eq!(store.rescue().await.unwrap(), 1);
    bench.advance(2 * LONG).await;
    let again = claim_one(&*store).await;
    assert_eq!((again.job.id, again.job.attempt, again.lease.number), (lost.job.id, 2, 2));
    assert!(matches!(store.finish(lost.lease, done()).await, Err(StoreError::Superseded(_))));
}

pub async fn a_job_that_waits_for_long_is_not_passed_by(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, input()).await;
    let second = handed_out(&*store, input()).await.job.id;
    bench.advance(LONG).await;
    let third = kept_waiting(&*store, input()).await;
    assert_ne!(second, third);
    assert_eq!(ids(&claim_all(&*store).await), [first, third]);
    handed_out(&*store, input()).await;
}

pub async fn a_job_that_cannot_wait_is_not_passed_by(bench: &mut dyn Bench) {
    for special in [new_job(), NewJob { max_attempts: 1, ..input() }] {
        let store = bench.store();
        let before = enqueue(&*store, special).await;
        let behind = kept_waiting(&*store, input()).await;
        assert_eq!(ids(&claim_all(&*store).await), [before, behind]);
    }
    let store = bench.store();
    let released = running(&*store).await;
    store.release(released, Duration::ZERO).await.unwrap();
    kept_waiting(&*store, input()).await;
}

pub async fn a_job_that_nobody_may_run_yet_holds_up_no_others(bench: &mut dyn Bench) {
    let store = bench.store();
    enqueue(&*store, job_with_key("a")).await;
    claim_one(&*store).await;
    enqueue(&*store, job_with_key("a")).await;
    bench.advance(LONG).await;
    handed_out(&*store, input()).await;
}

pub async fn jobs_that_others_may_have_to_wait_for_go_through_the_queue(bench: &mut dyn Bench) {
    for special in [new_job(), NewJob { max_attempts: 1, ..input() }, NewJob { key: Some("a".to_owned()), ..input() }] {
        let store = bench.store();
        let id = kept_waiting(&*store, special).await;
        assert_eq!(ids(&claim_all(&*store).await), [id]);
    }
}

pub async fn a_repeated_request_hands_out_nothing(bench: &mut dyn Bench) {
    let store = bench.store();
    let idempotency = Some(Idempotency { key: "request".to_owned(), digest: vec![1] });
    let first = NewJob { idempotency: idempotency.clone(), ..input() };
    handed_out(&*store, first.clone()).await;
    for repeated in [first.clone(), NewJob { idempotency, ..input() }] {
        let committed = offer(&*store, repeated).await;
        assert_eq!(committed, Committed { enqueued: Enqueued::Existing(first.id), claimed: None });
    }
}

pub async fn jobs_committed_together_are_each_handed_out_once(bench: &mut dyn Bench) {
    let store = bench.store();
    let offers = (0..50).map(|number| {
        let key = (number % 5 == 0).then(|| format!("key {number}"));
        offer(&*store, NewJob { key, ..input() })
    });
    let committed = join_all(offers).await;
    let mut seen: Vec<JobId> = committed.iter().filter_map(|it| it.claimed.as_ref()).map(|claimed| claimed.job.id).collect();
    for it in &committed {
        assert!(it.claimed.as_ref().is_none_or(|claimed| claimed.job.id == it.enqueued.id()));
    }
    assert_eq!(seen.len(), 40);
    seen.extend(ids(&claim_all(&*store).await));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50);
}

pub async fn a_job_handed_out_with_its_commit_meets_the_active_version(bench: &mut dyn Bench) {
    let store = bench.store();
    assert_eq!(handed_out(&*store, input()).await.active, None);
    let lease = running(&*store).await;
    let version = store.publish(lease, "artifact").await.unwrap();
    let Finish::Done { result, .. } = done() else { unreachable!("it is the end of a job") };
    store.finish(lease, Finish::Done { result, activate: Some(version) }).await.unwrap();
    assert_eq!(handed_out(&*store, input()).await.active, Some(version));
}

fn input() -> NewJob {
    NewJob { kind: JobKind::Input, ..new_job() }
}

async fn offer(store: &dyn Store, job: NewJob) -> Committed {
    store.enqueue_claimed(job, ReplicaId::random(), TERMS).await.unwrap()
}

async fn handed_out(store: &dyn Store, job: NewJob) -> ClaimedJob {
    let id = job.id;
    let committed = offer(store, job).await;
    assert_eq!(committed.enqueued, Enqueued::Created(id));
    committed.claimed.expect("it is handed out")
}

async fn kept_waiting(store: &dyn Store, job: NewJob) -> JobId {
    let id = job.id;
    assert_eq!(offer(store, job).await, Committed { enqueued: Enqueued::Created(id), claimed: None });
    id
}

fn ids(claimed: &[ClaimedJob]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.job.id).collect()
}

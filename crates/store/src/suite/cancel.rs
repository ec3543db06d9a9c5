//! Cancelling jobs.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::JobState;

use super::Bench;
use super::given::{claim_all, claim_one, done, ended, enqueue, error, job, job_with_key, new_job, retry_after, running};
use crate::{Cancelled, Finish};

pub async fn a_queued_job_is_cancelled_at_once(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, new_job()).await;
    assert_eq!(store.cancel(id).await.unwrap(), Cancelled::Now);
    let cancelled = job(&*store, id).await;
    assert_eq!((cancelled.state, cancelled.attempt, cancelled.cancel_requested), (JobState::Cancelled, 0, true));
    assert!(cancelled.finished_at.is_some());
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn the_holder_of_a_running_job_is_asked_to_cancel(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    for _ in 0..3 {
        assert_eq!(store.cancel(lease.job).await.unwrap(), Cancelled::Requested);
    }
    let asked = job(&*store, lease.job).await;
    assert_eq!((asked.state, asked.cancel_requested), (JobState::Running, true));
    store.finish(lease, Finish::Cancelled).await.unwrap();
    let cancelled = job(&*store, lease.job).await;
    assert_eq!((cancelled.state, cancelled.error, cancelled.result), (JobState::Cancelled, None, None));
}

pub async fn an_ended_job_is_not_changed_by_a_cancellation(bench: &mut dyn Bench) {
    let store = bench.store();
    for (finish, state) in
        [(done(), JobState::Done), (Finish::Failed(error("bad")), JobState::Error), (Finish::Cancelled, JobState::Cancelled)]
    {
        let id = ended(&*store, finish).await;
        let before = job(&*store, id).await;
        for _ in 0..3 {
            assert_eq!(store.cancel(id).await.unwrap(), Cancelled::Already(state));
        }
        assert_eq!(job(&*store, id).await, before);
    }
}

pub async fn a_cancellation_beats_a_later_retry_or_release(bench: &mut dyn Bench) {
    let store = bench.store();
    let retried = running(&*store).await;
    store.cancel(retried.job).await.unwrap();
    store.finish(retried, retry_after(Duration::ZERO)).await.unwrap();
    let released = running(&*store).await;
    store.cancel(released.job).await.unwrap();
    store.release(released, Duration::ZERO).await.unwrap();
    for id in [retried.job, released.job] {
        assert_eq!(job(&*store, id).await.state, JobState::Cancelled);
    }
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn a_cancelled_job_makes_way_for_the_next_of_its_key(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = enqueue(&*store, job_with_key("user")).await;
    let second = enqueue(&*store, job_with_key("user")).await;
    store.cancel(first).await.unwrap();
    assert_eq!(claim_one(&*store).await.lease.job, second);
}

pub async fn a_job_that_returned_before_it_noticed_is_done(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.cancel(lease.job).await.unwrap();
    store.finish(lease, done()).await.unwrap();
    assert_eq!(store.cancel(lease.job).await.unwrap(), Cancelled::Already(JobState::Done));
}

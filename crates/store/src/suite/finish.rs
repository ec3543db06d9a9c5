//! How attempts end.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::JobState;
use serde_json::{Value, json};

use super::Bench;
use super::given::{claim_all, claim_one, done, ended, enqueue, error, half_way, job, new_job, retry_after, running};
use crate::{Finish, NewJob};

const MINUTE: Duration = Duration::from_secs(60);

pub async fn a_finished_job_keeps_its_result(bench: &mut dyn Bench) {
    let store = bench.store();
    for result in [json!({"accuracy": 0.975, "n": i64::MAX}), json!([1, "two"]), Value::Null] {
        let id = ended(&*store, Finish::Done { result: result.clone(), activate: None }).await;
        let job = job(&*store, id).await;
        assert_eq!((job.state, job.result, job.error, job.version), (JobState::Done, Some(result), None, None));
        assert!(job.finished_at >= job.started_at && job.finished_at.is_some());
    }
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn a_failed_job_is_not_tried_again(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = ended(&*store, Finish::Failed(error("script_error"))).await;
    let job = job(&*store, id).await;
    assert_eq!((job.state, job.error, job.attempt), (JobState::Error, Some(error("script_error")), 1));
    assert!(job.finished_at.is_some() && job.result.is_none());
    bench.advance(MINUTE * 60).await;
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn a_retried_job_waits_as_long_as_it_was_told(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.finish(lease, retry_after(MINUTE)).await.unwrap();
    let waiting = job(&*store, lease.job).await;
    assert_eq!((waiting.state, waiting.error, waiting.finished_at), (JobState::Queued, Some(error("worker_crashed")), None));
    bench.advance(MINUTE / 2).await;
    assert!(claim_all(&*store).await.is_empty(), "it is not due yet");
    bench.advance(MINUTE / 2).await;
    let again = claim_one(&*store).await;
    assert_eq!((again.job.id, again.job.attempt), (lease.job, 2));
    assert!(again.lease.number > lease.number);
}

pub async fn the_last_retry_ends_in_its_own_error(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, NewJob { max_attempts: 2, ..new_job() }).await;
    for expected in [JobState::Queued, JobState::Error] {
        let lease = claim_one(&*store).await.lease;
        store.finish(lease, retry_after(Duration::ZERO)).await.unwrap();
        assert_eq!(job(&*store, id).await.state, expected);
    }
    let job = job(&*store, id).await;
    assert_eq!((job.error, job.attempt), (Some(error("worker_crashed")), 2));
    assert!(job.finished_at.is_some());
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn a_retried_job_that_succeeds_has_no_error(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.finish(lease, retry_after(Duration::ZERO)).await.unwrap();
    let again = claim_one(&*store).await.lease;
    store.finish(again, done()).await.unwrap();
    let job = job(&*store, lease.job).await;
    assert_eq!((job.state, job.error, job.attempt), (JobState::Done, None, 2));
}

pub async fn a_released_job_is_not_charged(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, NewJob { max_attempts: 1, ..new_job() }).await;
    let mut last = 0;
    for _ in 0..3 {
        let claimed = claim_one(&*store).await;
        assert_eq!(claimed.job.attempt, 1);
        assert!(claimed.lease.number > last, "a lease number is never used again");
        last = claimed.lease.number;
        store.release(claimed.lease, Duration::ZERO).await.unwrap();
        let waiting = job(&*store, id).await;
        assert_eq!((waiting.state, waiting.attempt, waiting.error), (JobState::Queued, 0, None));
    }
}

pub async fn a_released_job_waits_as_long_as_it_was_told(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.release(lease, MINUTE).await.unwrap();
    let other = enqueue(&*store, new_job()).await;
    assert_eq!(claim_one(&*store).await.job.id, other, "others go first meanwhile");
    bench.advance(MINUTE / 2).await;
    assert!(claim_all(&*store).await.is_empty(), "it is not due yet");
    bench.advance(MINUTE / 2).await;
    let again = claim_one(&*store).await;
    assert_eq!((again.job.id, again.job.attempt), (lease.job, 1));
}

pub async fn an_attempt_begins_without_the_progress_of_the_last(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.progress(lease, &half_way()).await.unwrap();
    assert_eq!(job(&*store, lease.job).await.progress, Some(half_way()));
    store.finish(lease, retry_after(Duration::ZERO)).await.unwrap();
    assert_eq!(claim_one(&*store).await.job.progress, None);
}

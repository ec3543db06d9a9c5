//! Jobs whose holder is gone.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{JobState, ReplicaId};
use tokio::task::JoinSet;

use super::Bench;
use super::given::{LEASE, TERMS, claim_all, claim_one, done, enqueue, job, new_job, retry_after, running};
use crate::{NewJob, StoreError, Terms};

/// Longer than any backoff.
const AN_HOUR: Duration = Duration::from_hours(1);

pub async fn a_job_whose_lease_has_ended_is_queued_again(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    bench.advance(LEASE).await;
    assert_eq!(store.rescue().await.unwrap(), 1);
    assert_eq!(store.rescue().await.unwrap(), 0);
    let waiting = job(&*store, lease.job).await;
    assert_eq!((waiting.state, waiting.attempt), (JobState::Queued, 1), "the attempt stays charged");
    assert_eq!(waiting.error.map(|error| error.code).as_deref(), Some("attempt_lost"));
    assert!(claim_all(&*store).await.is_empty(), "it waits a little, lest a job that kills its server does so in a loop");
    bench.advance(Duration::from_secs(1)).await;
    assert_eq!(claim_one(&*store).await.job.attempt, 2);
}

pub async fn a_rescue_leaves_live_leases_alone(bench: &mut dyn Bench) {
    let store = bench.store();
    let long = running(&*store).await;
    enqueue(&*store, new_job()).await;
    let short = store.claim(ReplicaId::random(), 1, Terms { lease: LEASE / 2, ..TERMS }).await.unwrap().remove(0).lease;
    bench.advance(LEASE / 2).await;
    assert_eq!(store.rescue().await.unwrap(), 1);
    assert_eq!(job(&*store, long.job).await.state, JobState::Running);
    assert_eq!(job(&*store, short.job).await.state, JobState::Queued);
    store.finish(long, done()).await.unwrap();
}

pub async fn an_attempt_that_takes_too_long_is_given_up_though_it_is_renewed(bench: &mut dyn Bench) {
    let store = bench.store();
    enqueue(&*store, new_job()).await;
    let terms = Terms { lease: LEASE, limit: LEASE * 3 / 2 };
    let lease = store.claim(ReplicaId::random(), 1, terms).await.unwrap().remove(0).lease;
    for rescued in [0, 0, 1] {
        store.renew(lease, LEASE).await.unwrap();
        assert_eq!(store.rescue().await.unwrap(), rescued);
        bench.advance(LEASE * 3 / 4).await;
    }
    assert!(matches!(store.renew(lease, LEASE).await, Err(StoreError::Superseded(_))));
    let given_up = job(&*store, lease.job).await;
    assert_eq!((given_up.state, given_up.error.unwrap().code.as_str()), (JobState::Queued, "attempt_overdue"));
}

pub async fn a_job_that_always_loses_its_worker_runs_out_of_attempts(bench: &mut dyn Bench) {
    let store = bench.store();
    let poison = enqueue(&*store, NewJob { max_attempts: 3, ..new_job() }).await;
    for attempt in 1..=3 {
        let claimed = claim_one(&*store).await;
        assert_eq!(claimed.job.attempt, attempt);
        let healthy = running(&*store).await;
        store.finish(healthy, done()).await.unwrap();
        bench.advance(AN_HOUR).await;
        assert_eq!(store.rescue().await.unwrap(), 1);
        bench.advance(AN_HOUR).await;
    }
    let job = job(&*store, poison).await;
    assert_eq!((job.state, job.attempt), (JobState::Error, 3));
    assert_eq!(job.error.unwrap().code, "attempts_exhausted");
    assert!(job.finished_at.is_some());
    assert!(claim_all(&*store).await.is_empty());
}

pub async fn the_last_error_is_kept_when_attempts_run_out(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, NewJob { max_attempts: 2, ..new_job() }).await;
    let lease = claim_one(&*store).await.lease;
    store.finish(lease, retry_after(Duration::ZERO)).await.unwrap();
    claim_one(&*store).await;
    bench.advance(AN_HOUR).await;
    assert_eq!(store.rescue().await.unwrap(), 1);
    let error = job(&*store, id).await.error.unwrap();
    assert_eq!((error.code.as_str(), error.traceback.as_deref()), ("attempts_exhausted", Some("line 1")));
    assert!(error.message.contains("it was worker_crashed"), "{}", error.message);
}

pub async fn concurrent_rescues_return_each_job_once(bench: &mut dyn Bench) {
    let store = bench.store();
    for _ in 0..20 {
        enqueue(&*store, new_job()).await;
    }
    assert_eq!(claim_all(&*store).await.len(), 20);
    bench.advance(AN_HOUR).await;
    let mut rescues = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        rescues.spawn(async move { store.rescue().await.unwrap() });
    }
    assert_eq!(rescues.join_all().await.iter().sum::<u64>(), 20);
    bench.advance(AN_HOUR).await;
    assert!(claim_all(&*store).await.iter().all(|claimed| claimed.job.attempt == 2));
}

pub async fn a_rescue_and_a_finish_never_both_count(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(running(&*store).await);
    }
    bench.advance(AN_HOUR).await;
    let mut finishes = JoinSet::new();
    for lease in leases {
        let store = store.clone();
        finishes.spawn(async move { (lease.job, store.finish(lease, done()).await) });
    }
    let mut rescued = 0_u64;
    let mut superseded = 0;
    while let Some(finished) = finishes.join_next().await {
        rescued += store.rescue().await.unwrap();
        let (id, outcome) = finished.unwrap();
        match (outcome, job(&*store, id).await.state) {
            (Ok(()), JobState::Done) => {}
            (Err(StoreError::Superseded(_)), JobState::Queued) => superseded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rescued, superseded, "every job was either finished or rescued");
}

pub async fn a_rescued_job_that_was_to_be_cancelled_is_cancelled(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.cancel(lease.job).await.unwrap();
    bench.advance(AN_HOUR).await;
    assert_eq!(store.rescue().await.unwrap(), 1);
    let job = job(&*store, lease.job).await;
    assert_eq!((job.state, job.error), (JobState::Cancelled, None));
    assert!(job.finished_at.is_some());
}

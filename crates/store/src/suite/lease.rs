//! What a lease allows, and what one that is over does not.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{Job, JobId, JobState, LogLine, ModelVersion, ReplicaId, StateValue};
use serde_json::{Number, json};

use super::Bench;
use super::given::{
    LEASE, TERMS, assert_superseded, claim_one, done, enqueue, error, half_way, job, line, new_job, retry_after, running,
};
use crate::{Finish, Lease, Store, Terms};

const MINUTE: Duration = Duration::from_secs(60);

pub async fn a_lease_taken_over_by_another_replica_is_refused_everything(bench: &mut dyn Bench) {
    let store = bench.store();
    let old = running(&*store).await;
    lose(bench, &*store).await;
    let new = claim_one(&*store).await.lease;
    assert!(new.job == old.job && new.number > old.number);
    assert_refused_everything(&*store, old).await;
    store.finish(new, done()).await.unwrap();
}

pub async fn a_lease_taken_over_by_the_same_replica_is_refused_everything(bench: &mut dyn Bench) {
    let store = bench.store();
    let replica = ReplicaId::random();
    enqueue(&*store, new_job()).await;
    let old = store.claim(replica, 1, TERMS).await.unwrap().remove(0).lease;
    lose(bench, &*store).await;
    let new = store.claim(replica, 1, TERMS).await.unwrap().remove(0).lease;
    assert_refused_everything(&*store, old).await;
    store.finish(new, done()).await.unwrap();
}

pub async fn a_lease_of_a_job_that_waits_again_is_refused_everything(bench: &mut dyn Bench) {
    let store = bench.store();
    let rescued = running(&*store).await;
    lose(bench, &*store).await;
    assert_refused_everything(&*store, rescued).await;

    let released = claim_one(&*store).await.lease;
    store.release(released, Duration::ZERO).await.unwrap();
    assert_refused_everything(&*store, released).await;

    let retried = claim_one(&*store).await.lease;
    store.finish(retried, retry_after(MINUTE)).await.unwrap();
    assert_refused_everything(&*store, retried).await;
}

pub async fn a_lease_of_a_job_that_has_ended_is_refused_everything(bench: &mut dyn Bench) {
    let store = bench.store();
    for finish in [done(), Finish::Failed(error("script_error")), Finish::Cancelled] {
        let lease = running(&*store).await;
        store.finish(lease, finish).await.unwrap();
        assert_refused_everything(&*store, lease).await;
    }
}

pub async fn a_lease_that_was_never_given_is_refused_everything(bench: &mut dyn Bench) {
    let store = bench.store();
    let queued = enqueue(&*store, new_job()).await;
    for number in [0, 1] {
        assert_refused_everything(&*store, Lease { job: queued, number }).await;
    }
    let lease = claim_one(&*store).await.lease;
    for number in [lease.number - 1, lease.number + 1, 0, -1, i64::MAX] {
        assert_refused_everything(&*store, Lease { number, ..lease }).await;
    }
    let unknown = Lease { job: JobId::random(), number: lease.number };
    assert_superseded(store.renew(unknown, LEASE).await, "a job that is not there");
    store.finish(lease, done()).await.unwrap();
}

pub async fn a_late_holder_goes_on_while_nobody_took_over(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    bench.advance(LEASE * 2).await;
    store.progress(lease, &half_way()).await.unwrap();
    store.renew(lease, LEASE).await.unwrap();
    assert_eq!(store.rescue().await.unwrap(), 0);
    store.finish(lease, done()).await.unwrap();
    assert_eq!(job(&*store, lease.job).await.state, JobState::Done);
}

pub async fn a_renewed_lease_does_not_end(bench: &mut dyn Bench) {
    let store = bench.store();
    enqueue(&*store, new_job()).await;
    let lease = store.claim(ReplicaId::random(), 1, Terms { lease: MINUTE, ..TERMS }).await.unwrap().remove(0).lease;
    for _ in 0..4 {
        bench.advance(MINUTE / 2).await;
        store.renew(lease, MINUTE).await.unwrap();
        assert_eq!(store.rescue().await.unwrap(), 0);
    }
    bench.advance(MINUTE).await;
    assert_eq!(store.rescue().await.unwrap(), 1, "only the time since the last renewal counts");
}

pub async fn a_renewal_tells_of_the_cancellation(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    assert!(!store.renew(lease, LEASE).await.unwrap().cancel_requested);
    store.cancel(lease.job).await.unwrap();
    assert!(store.renew(lease, LEASE).await.unwrap().cancel_requested);
}

pub async fn a_holder_can_learn_that_it_has_ended_its_attempt_itself(bench: &mut dyn Bench) {
    let store = bench.store();
    for finish in [done(), Finish::Failed(error("script_error")), Finish::Cancelled] {
        let lease = running(&*store).await;
        assert!(!store.is_settled(lease).await.unwrap());
        store.finish(lease, finish).await.unwrap();
        assert!(store.is_settled(lease).await.unwrap());
        assert!(!store.is_settled(Lease { number: lease.number + 1, ..lease }).await.unwrap());
    }
    let released = running(&*store).await;
    store.release(released, Duration::ZERO).await.unwrap();
    assert!(store.is_settled(released).await.unwrap());
    let lost = claim_one(&*store).await.lease;
    lose(bench, &*store).await;
    assert!(!store.is_settled(lost).await.unwrap(), "it was taken from it");
}

/// Lets the leases of all running jobs end, and the jobs return to the queue and become due.
async fn lose(bench: &dyn Bench, store: &dyn Store) {
    bench.advance(LEASE).await;
    assert_eq!(store.rescue().await.unwrap(), 1);
    bench.advance(MINUTE * 10).await;
}

/// Tries everything that takes a lease, and sees that nothing changed.
async fn assert_refused_everything(store: &dyn Store, old: Lease) {
    store.set(None, "kept", StateValue::Json(json!(1))).await.unwrap();
    let before = Everything::of(store, old).await;
    let value = || StateValue::Json(json!(2));
    assert_superseded(store.renew(old, LEASE * 100).await, "renew");
    assert_superseded(store.progress(old, &half_way()).await, "progress");
    assert_superseded(store.append_log(old, &[line("too late")]).await, "append_log");
    assert_superseded(store.append_log(old, &[]).await, "append_log of nothing");
    for finish in [done(), Finish::Failed(error("late")), retry_after(Duration::ZERO), Finish::Cancelled] {
        assert_superseded(store.finish(old, finish.clone()).await, &format!("{finish:?}"));
    }
    assert_superseded(store.release(old, Duration::ZERO).await, "release");
    assert_superseded(store.publish(old, "late").await, "publish");
    assert_superseded(store.set(Some(old), "kept", value()).await, "set");
    assert_superseded(store.set(Some(old), "new", value()).await, "set of a new key");
    assert_superseded(store.delete(Some(old), "kept").await, "delete");
    assert_superseded(store.increment(Some(old), "kept", &Number::from(1)).await, "increment");
    let expected = Some(StateValue::Json(json!(1)));
    assert_superseded(store.compare_and_set(Some(old), "kept", expected, Some(value())).await, "compare_and_set");
    assert_eq!(before, Everything::of(store, old).await);
}

/// All that a lease could change.
#[derive(Debug, PartialEq)]
struct Everything {
    job: Job,
    log: Vec<LogLine>,
    versions: Vec<ModelVersion>,
    state: Vec<(String, StateValue)>,
}

impl Everything {
    async fn of(store: &dyn Store, lease: Lease) -> Self {
        Self {
            job: job(store, lease.job).await,
            log: store.log(lease.job, 0, 100).await.unwrap(),
            versions: store.versions().await.unwrap(),
            state: store.scan("", None, 100).await.unwrap(),
        }
    }
}

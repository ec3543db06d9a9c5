//! Handing out more jobs than run at once.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{JobId, JobKind, ReplicaId};

use super::Bench;
use super::given::{TERMS, claim_one, done, enqueue, job, job_with_key, new_job, running};
use crate::{Ahead, ClaimedJob, Finish, NewJob, Store};

const IDLE: Ahead = Ahead { limit: 10, is_idle: true };
const BUSY: Ahead = Ahead { limit: 10, is_idle: false };

pub async fn jobs_claimed_ahead_come_in_their_order_and_are_charged(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut committed = Vec::new();
    for _ in 0..5 {
        committed.push(enqueue(&*store, input()).await);
    }
    assert_eq!(claim(&*store, Ahead { limit: 3, ..IDLE }).await, committed[..3]);
    assert_eq!(claim(&*store, Ahead { limit: 1, ..BUSY }).await, committed[3..4]);
    assert_eq!(claim(&*store, BUSY).await, committed[4..]);
    assert_eq!(job(&*store, committed[4]).await.attempt, 1);
    assert_eq!(claim(&*store, IDLE).await, []);
}

pub async fn a_job_that_cannot_wait_is_handed_out_alone_to_an_idle_worker(bench: &mut dyn Bench) {
    for special in [NewJob { kind: JobKind::Train, ..input() }, NewJob { max_attempts: 1, ..input() }] {
        let store = bench.store();
        let before = enqueue(&*store, input()).await;
        let alone = enqueue(&*store, special).await;
        let behind = enqueue(&*store, input()).await;
        assert_eq!(claim(&*store, IDLE).await, [before]);
        assert_eq!(claim(&*store, BUSY).await, [], "what is behind it does not pass it");
        assert_eq!(claim(&*store, IDLE).await, [alone]);
        assert_eq!(claim(&*store, BUSY).await, [behind]);
    }
}

pub async fn a_job_is_claimed_ahead_once(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, input()).await;
    let behind = enqueue(&*store, input()).await;
    let claimed = store.claim_ahead(ReplicaId::random(), IDLE, TERMS).await.unwrap();
    for claimed in claimed {
        store.release(claimed.lease, Duration::ZERO).await.unwrap();
    }
    assert_eq!(claim(&*store, BUSY).await, []);
    assert_eq!(claim(&*store, IDLE).await, [id]);
    assert_eq!(claim(&*store, IDLE).await, [behind]);
    assert_eq!(job(&*store, behind).await.attempt, 1, "being handed back cost nothing");
}

pub async fn jobs_of_a_key_are_not_claimed_ahead_of_each_other(bench: &mut dyn Bench) {
    let store = bench.store();
    let keyed = |key| NewJob { kind: JobKind::Input, ..job_with_key(key) };
    let first = enqueue(&*store, keyed("a")).await;
    enqueue(&*store, keyed("a")).await;
    let other = enqueue(&*store, keyed("b")).await;
    assert_eq!(claim(&*store, IDLE).await, [first, other]);
    assert_eq!(claim(&*store, BUSY).await, []);
}

pub async fn a_claim_tells_the_version_that_was_active(bench: &mut dyn Bench) {
    let store = bench.store();
    enqueue(&*store, input()).await;
    assert_eq!(claim_one(&*store).await.active, None);
    let lease = running(&*store).await;
    let version = store.publish(lease, "artifact").await.unwrap();
    enqueue(&*store, input()).await;
    assert_eq!(claim_one(&*store).await.active, None, "it is not active yet");
    let Finish::Done { result, .. } = done() else { unreachable!("it is the end of a job") };
    store.finish(lease, Finish::Done { result, activate: Some(version) }).await.unwrap();
    enqueue(&*store, input()).await;
    enqueue(&*store, input()).await;
    for ClaimedJob { active, .. } in store.claim_ahead(ReplicaId::random(), IDLE, TERMS).await.unwrap() {
        assert_eq!(active, Some(version));
    }
}

fn input() -> NewJob {
    NewJob { kind: JobKind::Input, ..new_job() }
}

async fn claim(store: &dyn Store, ahead: Ahead) -> Vec<JobId> {
    let claimed = store.claim_ahead(ReplicaId::random(), ahead, TERMS).await.unwrap();
    claimed.iter().map(|claimed| claimed.job.id).collect()
}

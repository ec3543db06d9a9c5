//! Two services in one database.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::StateValue;
use serde_json::json;

use super::Bench;
use super::given::{LEASE, assert_superseded, claim_all, claim_one, done, enqueue, first_jobs, line, new_job};
use crate::{Backlog, Enqueued, Finish, Idempotency, Lease, NewJob, StoreError};

pub async fn services_see_nothing_of_each_other(bench: &mut dyn Bench) {
    let (mine, theirs) = (bench.store(), bench.other_service());
    let request = || NewJob {
        key: Some("user".to_owned()),
        idempotency: Some(Idempotency { key: "key".to_owned(), digest: vec![1] }),
        ..new_job()
    };

    let id = enqueue(&*mine, request()).await;
    assert_eq!(theirs.job(id).await.unwrap(), None);
    assert_eq!(theirs.jobs(&first_jobs(10)).await.unwrap().jobs, []);
    assert_eq!(theirs.backlog().await.unwrap(), Backlog::default());
    assert!(matches!(theirs.log(id, 0, 10).await, Err(StoreError::UnknownJob(_))));
    assert!(matches!(theirs.cancel(id).await, Err(StoreError::UnknownJob(_))));
    assert!(claim_all(&*theirs).await.is_empty());
    let same_request = enqueue(&*theirs, request()).await;
    let same_id = NewJob { id, ..new_job() };
    assert_eq!(theirs.enqueue(same_id).await.unwrap(), Enqueued::Created(id), "even an id belongs to its service");

    let lease = claim_one(&*mine).await.lease;
    let of_their_own: Vec<_> = claim_all(&*theirs).await.into_iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(of_their_own, [same_request, id], "our running job of that key does not hold theirs up");
    mine.append_log(lease, &[line("ours")]).await.unwrap();
    assert_eq!(theirs.log(id, 0, 10).await.unwrap(), []);
    assert_superseded(theirs.renew(Lease { number: lease.number + 1, ..lease }, LEASE).await, "renew");

    let version = mine.publish(lease, "ours").await.unwrap();
    assert_eq!(theirs.versions().await.unwrap(), []);
    assert!(matches!(theirs.activate(version).await, Err(StoreError::UnknownVersion(_))));
    assert!(matches!(theirs.mark_bad(version, "no").await, Err(StoreError::UnknownVersion(_))));
    mine.finish(lease, Finish::Done { result: json!(1), activate: Some(version) }).await.unwrap();
    assert_eq!(theirs.active().await.unwrap(), None);

    mine.set(None, "key", StateValue::Json(json!("ours"))).await.unwrap();
    assert_eq!(theirs.get("key").await.unwrap(), None);
    assert_eq!(theirs.scan("", None, 10).await.unwrap(), []);
    assert!(!theirs.delete(None, "key").await.unwrap());
    assert_eq!(theirs.increment(None, "key", &1.into()).await.unwrap(), 1.into());
    assert_eq!(mine.get("key").await.unwrap(), Some(StateValue::Json(json!("ours"))));

    bench.advance(LEASE * 2).await;
    assert_eq!(mine.rescue().await.unwrap(), 0, "their leases are theirs to rescue");
    assert_eq!(theirs.prune(Duration::ZERO, 10).await.unwrap().len(), 0, "our job is ours to remove");
    assert_eq!(theirs.rescue().await.unwrap(), 2);
    assert_eq!(mine.prune(Duration::ZERO, 10).await.unwrap().len(), 1);
    assert!(theirs.job(id).await.unwrap().is_some());
    enqueue(&*mine, NewJob { id: new_job().id, ..request() }).await;
    let lease = claim_one(&*mine).await.lease;
    mine.finish(lease, done()).await.unwrap();
}

//! A restart.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use dunnage_types::{JobState, StateValue};
use serde_json::json;

use super::Bench;
use super::given::{claim_one, done, ended, enqueue, job, line, new_job, running};
use crate::{Cancelled, Finish};

pub async fn everything_is_there_after_reopening(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    store.append_log(lease, &[line("a line")]).await.unwrap();
    let version = store.publish(lease, "artifact").await.unwrap();
    store.finish(lease, Finish::Done { result: json!(1), activate: Some(version) }).await.unwrap();
    let other = ended(&*store, done()).await;
    let queued = enqueue(&*store, new_job()).await;
    store.set(None, "key", StateValue::Bytes(vec![0, 255])).await.unwrap();
    let before = (job(&*store, lease.job).await, store.active().await.unwrap());
    drop(store);

    bench.reopen().await;
    let store = bench.store();
    assert_eq!((job(&*store, lease.job).await, store.active().await.unwrap()), before);
    assert_eq!(store.log(lease.job, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.get("key").await.unwrap(), Some(StateValue::Bytes(vec![0, 255])));
    assert_eq!(store.cancel(other).await.unwrap(), Cancelled::Already(JobState::Done));
    let next = claim_one(&*store).await.lease;
    assert_eq!(next.job, queued);
    assert_eq!(store.publish(next, "next").await.unwrap().get(), version.get() + 1);
}

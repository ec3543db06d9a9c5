//! The end of retention.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::collections::HashSet;
use std::time::Duration;

use dunnage_types::FileAddress;

use super::Bench;
use super::given::{claim_one, done, ended, enqueue, error, line, new_job, retry_after, running};
use crate::{Finish, NewJob, StoreError};

const RETENTION: Duration = Duration::from_hours(24);

pub async fn ended_jobs_are_removed_after_their_retention(bench: &mut dyn Bench) {
    let store = bench.store();
    let files: Vec<FileAddress> = vec!["s3://faces/a.bin".parse().unwrap(), "s3://faces/b.bin".parse().unwrap()];
    let old = enqueue(&*store, NewJob { files: files.clone(), ..new_job() }).await;
    let lease = claim_one(&*store).await.lease;
    store.append_log(lease, &[line("a line")]).await.unwrap();
    store.finish(lease, done()).await.unwrap();
    bench.advance(RETENTION / 2).await;
    let recent = ended(&*store, Finish::Failed(error("bad"))).await;
    assert_eq!(store.prune(RETENTION, 10).await.unwrap(), Vec::<Vec<FileAddress>>::new(), "nothing is old enough");

    bench.advance(RETENTION / 2 + Duration::from_millis(1)).await;
    assert_eq!(store.prune(RETENTION, 10).await.unwrap(), [files]);
    assert_eq!(store.job(old).await.unwrap(), None);
    assert!(matches!(store.log(old, 0, 10).await, Err(StoreError::UnknownJob(_))));
    assert!(matches!(store.cancel(old).await, Err(StoreError::UnknownJob(_))));
    assert!(store.job(recent).await.unwrap().is_some());
}

pub async fn unfinished_jobs_are_never_removed(bench: &mut dyn Bench) {
    let store = bench.store();
    let running_job = running(&*store).await;
    let retried = running(&*store).await;
    store.finish(retried, retry_after(Duration::ZERO)).await.unwrap();
    let queued = enqueue(&*store, new_job()).await;
    bench.advance(RETENTION * 100).await;
    assert_eq!(store.prune(Duration::ZERO, 10).await.unwrap().len(), 0);
    for id in [running_job.job, retried.job, queued] {
        assert!(store.job(id).await.unwrap().is_some());
    }
}

pub async fn jobs_are_removed_in_batches(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut uploads = HashSet::new();
    for number in 0..7 {
        let file: FileAddress = format!("s3://faces/{number}").parse().unwrap();
        enqueue(&*store, NewJob { files: vec![file.clone()], ..new_job() }).await;
        let lease = claim_one(&*store).await.lease;
        store.finish(lease, done()).await.unwrap();
        uploads.insert(vec![file]);
    }
    bench.advance(RETENTION * 2).await;
    let mut removed = HashSet::new();
    for expected in [3, 3, 1, 0] {
        let batch = store.prune(RETENTION, 3).await.unwrap();
        assert_eq!(batch.len(), expected);
        removed.extend(batch);
    }
    assert_eq!(removed, uploads);
}

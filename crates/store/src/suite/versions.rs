//! Publishing and activating.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use dunnage_types::{JobState, ModelVersion, Version, VersionState};
use serde_json::json;
use tokio::task::JoinSet;

use super::Bench;
use super::given::{LEASE, claim_all, done, enqueue, error, job, new_job, running};
use crate::{Finish, Lease, Store, StoreError};

pub async fn versions_are_numbered_in_order(bench: &mut dyn Bench) {
    let store = bench.store();
    assert_eq!(store.versions().await.unwrap(), []);
    let first = running(&*store).await;
    let second = running(&*store).await;
    for (lease, artifact, number) in [(first, "a", 1), (second, "b", 2), (first, "c", 3)] {
        assert_eq!(store.publish(lease, artifact).await.unwrap().get(), number);
    }
    let versions = store.versions().await.unwrap();
    let summary: Vec<_> = versions.iter().map(|it| (it.version.get(), it.artifact.as_str(), it.job)).collect();
    assert_eq!(summary, [(3, "c", first.job), (2, "b", second.job), (1, "a", first.job)]);
}

pub async fn a_published_version_is_not_yet_active(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    let version = store.publish(lease, "artifact").await.unwrap();
    assert_eq!(store.active().await.unwrap(), None);
    assert_eq!(job(&*store, lease.job).await.version, Some(version));
    let kept = store.versions().await.unwrap().remove(0);
    let expected = ModelVersion {
        version,
        state: VersionState::Ready,
        active: false,
        artifact: "artifact".to_owned(),
        job: lease.job,
        created_at: kept.created_at,
        error: None,
    };
    assert_eq!(kept, expected);
    store.finish(lease, done()).await.unwrap();
    assert_eq!(store.active().await.unwrap(), None);
}

pub async fn a_finished_job_activates_its_version_with_its_end(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    let version = store.publish(lease, "artifact").await.unwrap();
    store.finish(lease, Finish::Done { result: json!(null), activate: Some(version) }).await.unwrap();
    let active = store.active().await.unwrap().expect("an active version");
    assert_eq!((active.version, active.active, active.artifact.as_str()), (version, true, "artifact"));
    let job = job(&*store, lease.job).await;
    assert_eq!((job.state, job.version), (JobState::Done, Some(version)));
}

pub async fn a_finish_that_cannot_activate_changes_nothing(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    let bad = store.publish(lease, "bad").await.unwrap();
    store.mark_bad(bad, "it does not load").await.unwrap();
    let before = job(&*store, lease.job).await;
    let activate = |version| Finish::Done { result: json!(1), activate: Some(version) };
    let refused = store.finish(lease, activate(bad)).await;
    assert!(matches!(refused, Err(StoreError::BadVersion(version)) if version == bad), "{refused:?}");
    let refused = store.finish(lease, activate(number(7))).await;
    assert!(matches!(refused, Err(StoreError::UnknownVersion(version)) if version == number(7)), "{refused:?}");
    assert_eq!((job(&*store, lease.job).await, store.active().await.unwrap()), (before, None));
    store.finish(lease, done()).await.unwrap();
}

pub async fn one_version_at_most_is_active(bench: &mut dyn Bench) {
    let store = bench.store();
    let published = publish(&*store, 3).await;
    for version in [published[0], published[2], published[1], published[1]] {
        store.activate(version).await.unwrap();
        let active: Vec<_> = store.versions().await.unwrap().into_iter().filter(|it| it.active).collect();
        assert_eq!(active.iter().map(|it| it.version).collect::<Vec<_>>(), [version]);
        assert_eq!(store.active().await.unwrap().as_ref(), active.first());
    }
}

pub async fn a_bad_version_never_becomes_active(bench: &mut dyn Bench) {
    let store = bench.store();
    let published = publish(&*store, 2).await;
    store.activate(published[0]).await.unwrap();
    store.mark_bad(published[1], "it does not load").await.unwrap();
    let refused = store.activate(published[1]).await;
    assert!(matches!(refused, Err(StoreError::BadVersion(version)) if version == published[1]), "{refused:?}");
    assert_eq!(store.active().await.unwrap().map(|it| it.version), Some(published[0]));
    let bad = store.versions().await.unwrap().remove(0);
    assert_eq!((bad.state, bad.active, bad.error.as_deref()), (VersionState::Bad, false, Some("it does not load")));
}

pub async fn marking_the_active_version_bad_leaves_it_active(bench: &mut dyn Bench) {
    let store = bench.store();
    let published = publish(&*store, 1).await;
    store.activate(published[0]).await.unwrap();
    store.mark_bad(published[0], "it does not load any more").await.unwrap();
    let active = store.active().await.unwrap().expect("an active version");
    assert_eq!((active.version, active.state), (published[0], VersionState::Bad));
}

pub async fn a_version_is_retracted_unless_it_has_come_to_serve(bench: &mut dyn Bench) {
    let store = bench.store();
    let (served, cut_off, kept) = (running(&*store).await, running(&*store).await, running(&*store).await);
    let versions = [publish_as(&*store, served).await, publish_as(&*store, cut_off).await, publish_as(&*store, kept).await];
    store.finish(served, activating(versions[0])).await.unwrap();
    store.finish(kept, activating(versions[2])).await.unwrap();
    for (version, expected) in versions.into_iter().zip([false, true, false]) {
        assert_eq!(store.retract(version, "it did not end well").await.unwrap(), expected, "version {version}");
    }
    let states: Vec<_> = store.versions().await.unwrap().iter().rev().map(|it| (it.state, it.active)).collect();
    assert_eq!(states, [(VersionState::Ready, false), (VersionState::Bad, false), (VersionState::Ready, true)]);
    let unknown = store.retract(number(9), "no").await;
    assert!(matches!(unknown, Err(StoreError::UnknownVersion(version)) if version == number(9)), "{unknown:?}");
}

pub async fn versions_of_training_that_was_cut_off_are_retracted(bench: &mut dyn Bench) {
    let store = bench.store();
    let (lost, goes_on, failed, served) =
        (running(&*store).await, running(&*store).await, running(&*store).await, running(&*store).await);
    for lease in [lost, goes_on, failed, served] {
        publish_as(&*store, lease).await;
    }
    store.finish(failed, Finish::Failed(error("script_error"))).await.unwrap();
    store.finish(served, activating(number(4))).await.unwrap();
    assert_eq!(store.retract_orphans().await.unwrap(), 1, "of the job that failed");
    bench.advance(LEASE).await;
    store.renew(goes_on, LEASE).await.unwrap();
    assert_eq!(store.rescue().await.unwrap(), 1);
    assert_eq!(store.retract_orphans().await.unwrap(), 1, "of the job that was lost");
    assert_eq!(store.retract_orphans().await.unwrap(), 0);
    let ready = |version: &ModelVersion| (version.state == VersionState::Ready).then_some(version.version.get());
    assert_eq!(store.versions().await.unwrap().iter().filter_map(ready).collect::<Vec<_>>(), [4, 2]);
}

pub async fn an_unknown_version_is_refused(bench: &mut dyn Bench) {
    let store = bench.store();
    publish(&*store, 1).await;
    let unknown = number(2);
    for refused in [store.activate(unknown).await, store.mark_bad(unknown, "no").await] {
        assert!(matches!(refused, Err(StoreError::UnknownVersion(version)) if version == unknown), "{refused:?}");
    }
    assert_eq!(store.active().await.unwrap(), None);
}

pub async fn concurrent_publications_get_different_numbers(bench: &mut dyn Bench) {
    let store = bench.store();
    for _ in 0..10 {
        enqueue(&*store, new_job()).await;
    }
    let mut publications = JoinSet::new();
    for claimed in claim_all(&*store).await {
        let store = store.clone();
        publications.spawn(async move { store.publish(claimed.lease, "artifact").await.unwrap().get() });
    }
    let mut numbers = publications.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
}

async fn publish_as(store: &dyn Store, lease: Lease) -> Version {
    store.publish(lease, "artifact").await.unwrap()
}

fn activating(version: Version) -> Finish {
    Finish::Done { result: json!(null), activate: Some(version) }
}

async fn publish(store: &dyn Store, count: usize) -> Vec<Version> {
    let lease = running(store).await;
    let mut published = Vec::new();
    for _ in 0..count {
        published.push(store.publish(lease, "artifact").await.unwrap());
    }
    published
}

fn number(number: u32) -> Version {
    Version::new(number).expect("not zero")
}

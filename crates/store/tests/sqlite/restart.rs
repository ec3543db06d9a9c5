//! The next life of a server, and what the former one left.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use dunnage_store::{Enqueued, Finish, Jobs, NewJob, SqliteStore, StoreError, Terms};
use dunnage_types::{JobId, JobKind, JobState, JsonObject, LogLevel, LogSource, NewLogLine, ReplicaId, Timestamp};

use crate::bench::{open, raw};

const AN_HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn the_jobs_of_a_former_life_are_rescued_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = enqueue(&store).await;
    let old = store.claim(ReplicaId::random(), 1, terms(AN_HOUR)).await.unwrap().remove(0).lease;
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.job(id).await.unwrap().unwrap().state, JobState::Running);
    assert_eq!(store.rescue().await.unwrap(), 1);
    let waiting = store.job(id).await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.attempt), (JobState::Queued, 1), "the attempt stays charged");
    assert!(matches!(store.renew(old, AN_HOUR).await, Err(StoreError::Superseded(_))));
}

#[tokio::test]
async fn the_jobs_of_every_service_lose_their_former_holders() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let other = store.for_service("other".parse().unwrap());
    enqueue(&other).await;
    assert_eq!(other.claim(ReplicaId::random(), 1, terms(AN_HOUR)).await.unwrap().len(), 1);
    drop((store, other));
    let other = open(folder.path()).for_service("other".parse().unwrap());
    assert_eq!(other.rescue().await.unwrap(), 1);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_does_not_hold_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broken = enqueue(&store).await;
    let healthy = enqueue(&store).await;
    raw(folder.path()).execute("UPDATE job SET files = '[\"nonsense' WHERE id = ?1", [broken.to_string()]).unwrap();

    let claimed = store.claim(ReplicaId::random(), 10, terms(AN_HOUR)).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [healthy]);
    let unreadable = store.job(broken).await;
    assert!(matches!(&unreadable, Err(StoreError::Corrupt { what, .. }) if what.contains(&broken.to_string())), "{unreadable:?}");
    raw(folder.path()).execute("UPDATE job SET files = '[]' WHERE id = ?1", [broken.to_string()]).unwrap();
    let ended = store.job(broken).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.error.unwrap().code.as_str()), (JobState::Error, "job_unreadable"));
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_rescued_like_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for _ in 0..3 {
        enqueue(&store).await;
    }
    assert_eq!(store.claim(ReplicaId::random(), 10, terms(Duration::ZERO)).await.unwrap().len(), 3);
    raw(folder.path()).execute("UPDATE job SET params = '{', error = 'nonsense', kind = 'unheard of' WHERE seq = 2", []).unwrap();
    assert_eq!(store.rescue().await.unwrap(), 3);
}

#[tokio::test]
async fn a_job_of_a_kind_that_only_a_later_version_knows_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let unknown = enqueue(&store).await;
    let known = enqueue(&store).await;
    let rename = |kind: &str| {
        raw(folder.path()).execute("UPDATE job SET kind = ?1 WHERE id = ?2", [kind, &unknown.to_string()]).unwrap();
    };
    rename("unheard of");
    let claimed = |jobs: Vec<dunnage_store::ClaimedJob>| jobs.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>();
    assert_eq!(claimed(store.claim(ReplicaId::random(), 10, terms(AN_HOUR)).await.unwrap()), [known]);
    rename("train");
    assert_eq!(claimed(store.claim(ReplicaId::random(), 10, terms(AN_HOUR)).await.unwrap()), [unknown]);
}

#[tokio::test]
async fn a_removed_job_leaves_no_log_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    enqueue(&store).await;
    let lease = store.claim(ReplicaId::random(), 1, terms(AN_HOUR)).await.unwrap().remove(0).lease;
    let message = "a line".to_owned();
    let line = NewLogLine { at: Timestamp::now(), source: LogSource::Log, level: LogLevel::Info, message };
    store.append_log(lease, &[line]).await.unwrap();
    store.finish(lease, Finish::Cancelled).await.unwrap();
    let lines = || raw(folder.path()).query_row("SELECT count(*) FROM job_log", [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(lines(), 1);
    raw(folder.path()).execute("UPDATE job SET finished_at = 0", []).unwrap();
    assert_eq!(store.prune(AN_HOUR, 10).await.unwrap().len(), 1);
    assert_eq!(lines(), 0);
}

#[tokio::test]
async fn a_new_folder_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("data/deeper");
    drop(open(&inner));
    assert_eq!(inner.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

async fn enqueue(store: &SqliteStore) -> JobId {
    let id = JobId::random();
    let (files, params) = (Vec::new(), JsonObject::new());
    let job = NewJob {
        id,
        kind: JobKind::Train,
        files,
        params,
        key: None,
        idempotency: None,
        callback: None,
        output_uri: None,
        max_attempts: 3,
    };
    assert_eq!(store.enqueue(job).await.unwrap(), Enqueued::Created(id));
    id
}

fn terms(lease: Duration) -> Terms {
    Terms { lease, limit: AN_HOUR }
}

//! What tests begin with, and wait for.

use std::time::Duration;

use dunnage_store::{Enqueued, Jobs, Lease, NewJob, PostgresStore, Terms};
use dunnage_types::{JobId, JobKind, JsonObject, ReplicaId};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const TERMS: Terms = Terms { lease: Duration::from_mins(10), limit: Duration::from_hours(10) };

pub(crate) fn new_job() -> NewJob {
    NewJob {
        id: JobId::random(),
        kind: JobKind::Train,
        files: Vec::new(),
        params: JsonObject::new(),
        key: None,
        idempotency: None,
        callback: None,
        output_uri: None,
        max_attempts: 3,
    }
}

pub(crate) async fn enqueue(store: &PostgresStore, job: NewJob) -> JobId {
    let id = job.id;
    assert_eq!(store.enqueue(job).await.unwrap(), Enqueued::Created(id));
    id
}

/// Commits a job and claims it.
pub(crate) async fn running(store: &PostgresStore) -> Lease {
    enqueue(store, new_job()).await;
    let mut claimed = store.claim(ReplicaId::random(), 1, TERMS).await.unwrap();
    claimed.pop().expect("the job is due").lease
}

/// A connection beside the store's own.
pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits until so many statements in the client's database wait for a lock.
pub(crate) async fn until_blocked(client: &Client, statements: i64) {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("statements wait for a lock", async || {
        // Within a transaction the first look would count for all that follow.
        client.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        client.query_one(count, &[]).await.unwrap().get::<_, i64>(0) >= statements
    })
    .await;
}

/// Waits until something is so; fails when that takes too long.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < PATIENCE, "{what}: not so after {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

//! A database that goes away, and a network that does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunnage_store::{Finish, Jobs, Lease, PostgresSettings, PostgresStore, State, StoreError};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::proxy::{Mode, Modes, Proxy};
use dunnage_types::{JobId, ReplicaId, StateValue};
use serde_json::json;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, timeout};

use crate::bench::{database, open, settings};
use crate::given::{PATIENCE, TERMS, client, enqueue, new_job, running, until, until_blocked};

const RESTARTS: usize = 3;
const JOBS_BETWEEN_RESTARTS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn no_answered_job_is_lost_when_the_database_crashes() {
    let cluster = block_in_place(Cluster::start);
    let url = block_in_place(|| cluster.database());
    let store = open(&url).await;
    let answered = Arc::new(Mutex::new(HashSet::new()));
    let (count, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (store, answered, count, is_over) = (store.clone(), Arc::clone(&answered), Arc::clone(&count), Arc::clone(&is_over));
        tasks.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(id) = work_a_little(&store).await {
                    answered.lock().unwrap().insert(id);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    for _ in 0..RESTARTS {
        let enough = count.load(Ordering::Relaxed) + JOBS_BETWEEN_RESTARTS;
        until("jobs are answered again", async || count.load(Ordering::Relaxed) >= enough).await;
        block_in_place(|| cluster.restart_immediately());
    }
    let enough = count.load(Ordering::Relaxed) + JOBS_BETWEEN_RESTARTS;
    until("jobs are answered after the last crash", async || count.load(Ordering::Relaxed) >= enough).await;
    is_over.store(true, Ordering::Relaxed);
    timeout(PATIENCE, tasks.join_all()).await.expect("every call ends");

    let kept = block_in_place(|| cluster.sql(&url, "SELECT id FROM job"));
    let kept: HashSet<JobId> = kept.lines().map(|id| id.parse().unwrap()).collect();
    let answered = answered.lock().unwrap();
    let lost: Vec<_> = answered.difference(&kept).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), answered.len());
}

/// Commits a job and brings another to its end; the job, if it was answered.
async fn work_a_little(store: &PostgresStore) -> Option<JobId> {
    let job = new_job();
    let id = job.id;
    let answered = store.enqueue(job).await;
    assert!(matches!(answered, Ok(_) | Err(StoreError::Unavailable(_))), "{answered:?}");
    for claimed in store.claim(ReplicaId::random(), 1, TERMS).await.unwrap_or_default() {
        let finished = store.finish(claimed.lease, Finish::Cancelled).await;
        assert!(matches!(finished, Ok(()) | Err(StoreError::Unavailable(_) | StoreError::Superseded(_))), "{finished:?}");
    }
    answered.is_ok().then_some(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_have_died_are_replaced_without_anybody_noticing() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    let lease = running(&store).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'dunnage'";
    for round in 0..10 {
        assert!(other.query_one(kill, &[]).await.unwrap().get::<_, i64>(0) > 0);
        match round % 4 {
            0 => drop(store.job(lease.job).await.unwrap()),
            1 => drop(store.renew(lease, Duration::from_mins(1)).await.unwrap()),
            2 => drop(store.enqueue(new_job()).await.unwrap()),
            _ => assert!(!store.is_settled(lease).await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_network_is_gone_notices_and_listens_again() {
    let url = database().await;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], block_in_place(Cluster::shared).port())));
    let through = url.replacen(&Cluster::shared().port().to_string(), &proxy.address().port().to_string(), 1);
    let far =
        PostgresStore::open(PostgresSettings { listener_ping: Duration::from_millis(200), ..settings(&through) }).await.unwrap();
    let near = open(&url).await;
    let listeners = async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        block_in_place(|| Cluster::shared().sql(&url, count)).parse::<u32>().unwrap()
    };
    until("both listen", async || listeners().await == 2).await;

    // Half open: nothing comes from the server, not even its end.
    proxy.set(Modes { to_server: Mode::Pass, to_client: Mode::Blackhole });
    until("the one far away has given up its connection", async || listeners().await == 1).await;
    until_not_told(&far).await;
    enqueue(&near, new_job()).await;
    proxy.set(Modes::PASS);
    timeout(PATIENCE, far.work_hint()).await.expect("whoever listens again is told: something may have been missed");
    until("both listen again", async || listeners().await == 2).await;
    until_not_told(&far).await;
    enqueue(&near, new_job()).await;
    timeout(PATIENCE, far.work_hint()).await.expect("it hears again");
}

/// Takes the hints that there may be, until there is none.
async fn until_not_told(store: &PostgresStore) {
    while timeout(Duration::from_millis(300), store.work_hint()).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_is_given_up_and_its_statement_ended() {
    let url = database().await;
    let limit = Duration::from_secs(1);
    let store = PostgresStore::open(PostgresSettings { statement_timeout: limit, connections: 1, ..settings(&url) }).await.unwrap();
    let other = client(&url).await;
    store.set(None, "key", StateValue::Json(json!(1))).await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE state").await.unwrap();
    let begin = Instant::now();
    let given_up = store.set(None, "key", StateValue::Json(json!(2))).await;
    assert!(matches!(&given_up, Err(StoreError::Unavailable(error)) if error.to_string().contains("within 1 s")), "{given_up:?}");
    assert!(begin.elapsed() < PATIENCE / 2);
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the statement is ended", async || block_in_place(|| Cluster::shared().sql(&url, blocked)) == "0").await;
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.get("key").await.unwrap(), Some(StateValue::Json(json!(1))), "it has not taken effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_do_not_wait_for_anything_else() {
    let url = database().await;
    let store = PostgresStore::open(PostgresSettings { connections: 1, ..settings(&url) }).await.unwrap();
    let (lease, other) = (running(&store).await, client(&url).await);
    other.batch_execute("BEGIN; LOCK TABLE state").await.unwrap();
    let blocked = tokio::spawn({
        let store = store.clone();
        async move { store.set(None, "key", StateValue::Json(json!(1))).await }
    });
    until_blocked(&other, 1).await;
    let refused = store.job(lease.job).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "the only connection is taken: {refused:?}");
    store.renew(lease, Duration::from_mins(1)).await.unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    blocked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_holds_up_no_others() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    let (broken, healthy) = (enqueue(&store, new_job()).await, enqueue(&store, new_job()).await);
    other.execute("UPDATE job SET files = '[\"nonsense' WHERE id = $1::text::uuid", &[&broken.to_string()]).await.unwrap();
    let claimed = store.claim(ReplicaId::random(), 10, TERMS).await.unwrap();
    assert_eq!(claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [healthy]);
    let unreadable = store.job(broken).await;
    assert!(matches!(&unreadable, Err(StoreError::Corrupt { what, .. }) if what.contains(&broken.to_string())), "{unreadable:?}");
    other.batch_execute("UPDATE job SET files = '[]'").await.unwrap();
    assert_eq!(store.job(broken).await.unwrap().unwrap().error.unwrap().code, "job_unreadable");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_cannot_be_rescued_hide_no_others() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    let lost: Vec<Lease> = {
        for _ in 0..250 {
            enqueue(&store, new_job()).await;
        }
        let claimed = store.claim(ReplicaId::random(), 250, TERMS).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.lease).collect()
    };
    assert_eq!(lost.len(), 250);
    other
        .batch_execute(
            "UPDATE job SET lease_expires_at = now(), params = '{', error = 'nonsense';
             ALTER TABLE job ADD CHECK (seq > 200 OR state = 'running') NOT VALID",
        )
        .await
        .unwrap();
    assert_eq!(store.rescue().await.unwrap(), 50);
    assert_eq!(store.rescue().await.unwrap(), 0);
}

//! Several servers at one database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunnage_store::suite::Bench;
use dunnage_store::{Finish, Jobs, NewJob, PostgresStore, StoreError};
use dunnage_types::{JobId, Presence, ReplicaId};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bench::{PostgresBench, database, open, sql};
use crate::given::{PATIENCE, TERMS, client, enqueue, new_job, until_blocked};

const KEYS: usize = 5;
const JOBS: usize = 300;

/// What has begun and not ended of each key, and the order in which all began.
#[derive(Default)]
struct Course {
    running: HashMap<String, JobId>,
    begun: HashMap<String, Vec<String>>,
    ended: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_key_never_overlap_and_begin_in_the_order_of_their_commits() {
    let url = database().await;
    let stores = [open(&url).await, open(&url).await, open(&url).await];
    let course = Arc::new(Mutex::new(Course::default()));
    let mut tasks = JoinSet::new();
    for (number, store) in stores.iter().cycle().take(6).cloned().enumerate() {
        tasks.spawn(async move {
            for job in 0..JOBS / 6 {
                let key = Some(format!("key {}", (job + number) % KEYS));
                enqueue(&store, NewJob { key, ..new_job() }).await;
            }
        });
    }
    for number in 0..6 {
        let (store, course) = (stores[number % stores.len()].clone(), Arc::clone(&course));
        tasks.spawn(async move { work(&store, &course).await });
    }
    timeout(PATIENCE, tasks.join_all()).await.expect("every job ends in time");

    let begun = std::mem::take(&mut course.lock().unwrap().begun);
    assert_eq!(begun.len(), KEYS);
    for (key, began) in begun {
        let committed = sql(&url, &format!("SELECT id FROM job WHERE key = '\"{key}\"' ORDER BY seq"));
        assert_eq!(began, committed.lines().collect::<Vec<_>>(), "{key}");
    }
}

/// Takes jobs until all have ended.
async fn work(store: &PostgresStore, course: &Mutex<Course>) {
    let replica = ReplicaId::random();
    while course.lock().unwrap().ended < JOBS {
        for claimed in store.claim(replica, 3, TERMS).await.unwrap() {
            let key = claimed.job.key.clone().expect("all have one");
            {
                let mut course = course.lock().unwrap();
                let other = course.running.insert(key.clone(), claimed.job.id);
                assert_eq!(other, None, "two of {key} run at once");
                course.begun.entry(key.clone()).or_default().push(claimed.job.id.to_string());
            }
            tokio::task::yield_now().await;
            assert_eq!(course.lock().unwrap().running.remove(&key), Some(claimed.job.id));
            store.finish(claimed.lease, Finish::Cancelled).await.unwrap();
            course.lock().unwrap().ended += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_key_is_committed_after_those_that_drew_their_place_before() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    // As another server in the middle of its commit.
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('dunnage key mine \"user\"', 0))";
    other.batch_execute(lock).await.unwrap();
    let later = tokio::spawn({
        let store = store.clone();
        async move { enqueue(&store, NewJob { key: Some("user".to_owned()), ..new_job() }).await }
    });
    until_blocked(&other, 1).await;
    let drawn = "SELECT nextval(pg_get_serial_sequence('job', 'seq'))";
    let place: i64 = other.query_one(drawn, &[]).await.unwrap().get(0);
    other.batch_execute("COMMIT").await.unwrap();
    let later = later.await.unwrap();
    let seq: i64 = sql(&url, &format!("SELECT seq FROM job WHERE id = '{later}'")).parse().unwrap();
    assert!(seq > place, "it drew {seq} while it waited for the one with {place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_waits_for_work_that_another_commits() {
    let url = database().await;
    let (first, second) = (open(&url).await, open(&url).await);
    // Whoever has just begun to listen is told in any case.
    timeout(PATIENCE, second.work_hint()).await.expect("the listener begins");
    let waiting = tokio::spawn(async move { timeout(PATIENCE, second.work_hint()).await });
    enqueue(&first, new_job()).await;
    waiting.await.unwrap().expect("it is told of the job");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_all_were_silent_forget_each_other_without_waiting() {
    let bench = PostgresBench::start().await;
    let store = bench.store();
    let replicas: Vec<ReplicaId> = (0..8).map(|_| ReplicaId::random()).collect();
    for round in 0..5 {
        let mut announcements = JoinSet::new();
        for replica in replicas.clone() {
            let store = store.clone();
            announcements.spawn(async move { store.announce(replica, &Presence::default(), Duration::from_mins(1)).await });
        }
        let outcomes: Vec<Result<(), StoreError>> = announcements.join_all().await;
        assert!(outcomes.iter().all(Result::is_ok), "round {round}: {outcomes:?}");
        bench.advance(Duration::from_hours(1)).await;
    }
}

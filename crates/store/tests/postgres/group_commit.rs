//! Calls that come together share a statement, and so a transaction.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use dunnage_store::{Finish, Jobs, NewJob, StoreError};
use dunnage_types::{LogLevel, LogSource, NewLogLine, Progress, ReplicaId, Timestamp};
use futures_util::future::join_all;
use rand::RngExt;
use tokio_postgres::Client;

use crate::bench::{database, open};
use crate::given::{TERMS, client, new_job, until_blocked};

/// The first call of many finds nothing to share with, the others share with each other.
const FEW: i64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_that_come_together_take_a_few_transactions() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    let made = together(&other, (0..100).map(|_| store.enqueue(new_job()))).await;
    assert!(made.iter().all(Result::is_ok));
    assert_shared(&other, "enqueueing").await;

    let replica = ReplicaId::random();
    let claimed = together(&other, (0..100).map(|_| store.claim(replica, 1, TERMS))).await;
    let leases: Vec<_> = claimed.into_iter().map(|claimed| claimed.unwrap().pop().expect("one for each").lease).collect();
    assert_eq!(leases.iter().collect::<HashSet<_>>().len(), 100, "each job is dealt out once");
    assert_shared(&other, "claiming").await;

    let renewed = together(&other, leases.iter().map(|lease| store.renew(*lease, Duration::from_mins(1)))).await;
    assert!(renewed.iter().all(Result::is_ok));
    assert_shared(&other, "renewing").await;

    let progress = Progress { fraction: Some(0.5), ..Progress::default() };
    let noted = together(&other, leases.iter().map(|lease| store.progress(*lease, &progress))).await;
    assert!(noted.iter().all(Result::is_ok));
    assert_shared(&other, "noting progress").await;

    let lines = [line("a"), line("b")];
    let appended = together(&other, leases.iter().map(|lease| store.append_log(*lease, &lines))).await;
    assert!(appended.iter().all(Result::is_ok));
    assert_shared(&other, "logging").await;

    let finished = together(&other, leases.iter().map(|lease| store.finish(*lease, Finish::Cancelled))).await;
    assert!(finished.iter().all(Result::is_ok));
    assert_shared(&other, "finishing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_database_refuses_does_not_spoil_the_others() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    // Too long for an index, however well it is packed.
    let key: String = rand::rng().sample_iter(rand::distr::Alphanumeric).take(20_000).map(char::from).collect();
    let jobs = (0..20).map(|number| NewJob { key: (number == 7).then(|| key.clone()), ..new_job() });
    let outcomes = together(&other, jobs.map(|job| store.enqueue(job))).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        match (number, outcome) {
            (7, Err(StoreError::Unavailable(error))) => assert!(error.to_string().contains("index row"), "{error}"),
            (7, other) => panic!("{other:?}"),
            (_, outcome) => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
    assert_eq!(store.backlog().await.unwrap().queued, 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ends_of_one_attempt_never_both_count() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    for _ in 0..5 {
        let lease = crate::given::running(&store).await;
        let outcomes = together(&other, (0..4).map(|_| store.finish(lease, Finish::Cancelled))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Superseded(job)) if *job == lease.job));
        assert_eq!(refused.count(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_has_gone_still_counts() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    lock(&other).await;
    tokio::select! {
        biased;
        _ = store.enqueue(new_job()) => panic!("nothing can be committed yet"),
        () = std::future::ready(()) => {}
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    crate::given::until("the job is there", async || store.backlog().await.unwrap().queued == 1).await;
}

/// Makes calls while nothing can be written, so that all of them wait when it can be again.
async fn together<F: Future>(other: &Client, calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    lock(other).await;
    let mut all = pin!(tokio::task::unconstrained(join_all(calls)));
    tokio::select! {
        biased;
        _ = &mut all => panic!("nothing can be committed yet"),
        () = std::future::ready(()) => {}
    }
    until_blocked(other, 1).await;
    other.batch_execute("COMMIT").await.unwrap();
    all.await
}

async fn lock(other: &Client) {
    other.batch_execute("BEGIN; LOCK TABLE job IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
}

/// Every row was last written by one of a few transactions.
async fn assert_shared(other: &Client, what: &str) {
    let transactions = other.query_one("SELECT count(DISTINCT xmin::text) FROM job", &[]).await.unwrap().get::<_, i64>(0);
    assert!((1..=FEW).contains(&transactions), "{what} took {transactions} transactions");
}

fn line(message: &str) -> NewLogLine {
    NewLogLine { at: Timestamp::now(), source: LogSource::Log, level: LogLevel::Info, message: message.to_owned() }
}

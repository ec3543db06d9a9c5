//! The schema, when it is made and by whom.

use std::time::Duration;

use dunnage_store::{Finish, Jobs, Lease, PostgresStore, StoreError, migrate};
use dunnage_testing::postgres::Cluster;
use dunnage_types::ReplicaId;
use tokio::task::JoinSet;

use crate::bench::{database, open, settings, sql};
use crate::given::{TERMS, client, enqueue, new_job, until_blocked};

/// The lock servers take while they change the schema: "dunnage" in ASCII.
const MIGRATION_LOCK: i64 = 0x64_75_6e_6e_61_67_65;

#[tokio::test(flavor = "multi_thread")]
async fn five_servers_may_open_an_empty_database_at_once() {
    for round in 0..20 {
        let url = database().await;
        let mut openings = JoinSet::new();
        for _ in 0..5 {
            openings.spawn(PostgresStore::open(settings(&url)));
        }
        let opened = openings.join_all().await;
        assert!(opened.iter().all(Result::is_ok), "round {round}: {opened:?}");
        assert_eq!(sql(&url, "SELECT string_agg(version::text, ' ' ORDER BY version) FROM dunnage_schema"), "1 2 3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_before_and_after_are_told() {
    let url = database().await;
    let first = migrate(&url).await.unwrap();
    assert_eq!((first.from, first.to), (0, 3));
    let second = migrate(&url).await.unwrap();
    assert_eq!((second.from, second.to), (3, 3));
    open(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_cut_off_leaves_nothing_behind() {
    let url = database().await;
    let other = client(&url).await;
    // It comes as far as its first table, whose name is taken by something that cannot be seen yet.
    other.batch_execute("BEGIN; CREATE TABLE job_log (taken int)").await.unwrap();
    let migrating = tokio::spawn({
        let url = url.clone();
        async move { migrate(&url).await }
    });
    until_blocked(&other, 1).await;
    let kill =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    other.query_one(kill, &[]).await.unwrap();
    let cut_off = migrating.await.unwrap();
    assert!(matches!(cut_off, Err(StoreError::Unavailable(_))), "{cut_off:?}");
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sql(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    open(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_another() {
    let url = database().await;
    let other = client(&url).await;
    other.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await.unwrap();
    let opening = tokio::spawn(PostgresStore::open(settings(&url)));
    until_blocked(&other, 1).await;
    other.batch_execute("COMMIT").await.unwrap();
    opening.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_later_version_is_left_alone() {
    let url = database().await;
    open(&url).await;
    sql(&url, "INSERT INTO dunnage_schema (version) VALUES (1000)");
    let refused = PostgresStore::open(settings(&url)).await;
    assert!(matches!(refused, Err(StoreError::SchemaTooNew { found: 1000, known: 3 })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_change_the_schema_can_serve() {
    let url = database().await;
    sql(&url, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC");
    migrate(&url).await.unwrap();
    let name = format!("reader_{}", url.rsplit('/').next().unwrap());
    sql(&url, &format!("CREATE ROLE {name} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"));
    let store = open(&url.replacen("postgres@", &format!("{name}@"), 1)).await;
    let waiting = enqueue(&store, new_job()).await;
    assert_eq!(store.waiting(1).await.unwrap()[0].id, waiting);
    let lease = claim(&store).await;
    store.release(lease, Duration::ZERO).await.unwrap();
    store.finish(claim(&store).await, Finish::Cancelled).await.unwrap();
}

async fn claim(store: &PostgresStore) -> Lease {
    store.claim(ReplicaId::random(), 1, TERMS).await.unwrap()[0].lease
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_that_cannot_hold_every_text_is_refused() {
    let url = database().await;
    let name = format!("ascii_{}", url.rsplit('/').next().unwrap());
    sql(&url, &format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"));
    let refused = PostgresStore::open(settings(&Cluster::shared().url(&name))).await;
    let Err(StoreError::Unavailable(error)) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("SQL_ASCII") && error.to_string().contains("UTF8"), "{error}");
}

//! Ways to a database that lead nowhere, and what is said of them.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use dunnage_store::{Jobs, PostgresSettings, PostgresStore, StoreError};
use dunnage_testing::postgres::Cluster;
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout};

use crate::bench::{database, settings};
use crate::given::{PATIENCE, new_job};

const SECRET: &str = "s3cret-Pa55";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_what_was_tried_and_what_to_do_but_no_password() {
    let port = block_in_place(Cluster::shared).port();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (address, tried, advice) in [
        (format!("127.0.0.1:{port}/no_such"), format!("`no_such` on `127.0.0.1:{port}`"), "create the database first"),
        (format!("127.0.0.1:{free}/jobs"), format!("`jobs` on `127.0.0.1:{free}`"), "check that the server runs"),
        ("no-such-host.invalid/jobs".to_owned(), "`jobs` on `no-such-host.invalid:5432`".to_owned(), "check that the server runs"),
        (format!("127.0.0.1:{port}/postgres?sslmode=require"), format!("`postgres` on `127.0.0.1:{port}`"), "check `sslmode`"),
    ] {
        let said = refusal(&format!("postgres://postgres:{SECRET}@{address}")).await;
        assert!(said.contains(&tried) && said.contains("`postgres`") && said.contains(advice), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let rules = folder.path().join("pg_hba.conf");
    std::fs::write(&rules, "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n").unwrap();
    let cluster = block_in_place(|| Cluster::start_with(&[("hba_file", rules.to_str().unwrap())]));
    let url = block_in_place(|| cluster.database());
    block_in_place(|| cluster.sql(&url, &format!("CREATE ROLE me LOGIN SUPERUSER PASSWORD '{SECRET}'")));
    let with = |password: &str| url.replacen("postgres@", &format!("me:{password}@"), 1);
    let said = refusal(&with("wr0ng-Pa55")).await;
    assert!(said.contains("as user `me`") && said.contains("check the user and the password") && said.contains("28P01"), "{said}");
    PostgresStore::open(settings(&with(SECRET))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_up_later_is_waited_for() {
    let cluster = block_in_place(Cluster::start);
    let url = block_in_place(|| cluster.database());
    block_in_place(|| cluster.stop());
    let opening = tokio::spawn(PostgresStore::open(PostgresSettings { patience: PATIENCE, ..settings(&url) }));
    block_in_place(|| cluster.start_again());
    let store = timeout(PATIENCE, opening).await.expect("it is there in time").unwrap().unwrap();
    store.enqueue(new_job()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_cannot_mend_is_not_waited_for() {
    let url = database().await;
    let missing = url.replace("/test_", "/no_such_");
    let begin = Instant::now();
    let refused = PostgresStore::open(PostgresSettings { patience: PATIENCE * 10, ..settings(&missing) }).await;
    assert!(refused.is_err() && begin.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_gone_is_unavailable_within_a_bounded_time() {
    let cluster = block_in_place(Cluster::start);
    let url = block_in_place(|| cluster.database());
    let store = PostgresStore::open(settings(&url)).await.unwrap();
    block_in_place(|| cluster.stop());
    for _ in 0..3 {
        let refused = timeout(Duration::from_secs(30), store.enqueue(new_job())).await.expect("an answer in time");
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    block_in_place(|| cluster.start_again());
    store.enqueue(new_job()).await.unwrap();
}

/// All that is said when a store cannot be opened.
async fn refusal(url: &str) -> String {
    let Err(StoreError::Unavailable(error)) = PostgresStore::open(settings(url)).await else { panic!("{url} leads somewhere") };
    let mut said = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    assert!(!said.contains("Pa55"), "{said}");
    said
}

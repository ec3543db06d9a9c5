//! A PostgreSQL store in a database of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dunnage_store::suite::{Bench, LIMITS};
use dunnage_store::{PostgresSettings, PostgresStore, Store};
use dunnage_testing::postgres::Cluster;

pub(crate) struct PostgresBench {
    store: Option<PostgresStore>,
    url: String,
}

impl PostgresBench {
    pub(crate) async fn start() -> Self {
        let url = tokio::task::block_in_place(|| Cluster::shared().database());
        Self { store: Some(open(&url).await), url }
    }

    fn postgres(&self) -> &PostgresStore {
        self.store.as_ref().expect("open")
    }
}

#[async_trait]
impl Bench for PostgresBench {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.postgres().clone())
    }

    fn other_service(&self) -> Arc<dyn Store> {
        Arc::new(self.postgres().for_service("other".parse().unwrap()))
    }

    async fn advance(&self, time: Duration) {
        let by = format!("make_interval(secs => {})", time.as_secs_f64());
        let moved = |columns: &[&str]| columns.iter().map(|name| format!("{name} = {name} - {by}")).collect::<Vec<_>>().join(", ");
        let jobs = moved(&["run_at", "lease_expires_at", "deadline_at", "created_at", "started_at", "finished_at", "callback_due"]);
        let replicas = moved(&["started_at", "seen_at"]);
        let client = client(&self.url).await;
        client.batch_execute(&format!("UPDATE job SET {jobs}; UPDATE replica SET {replicas}")).await.unwrap();
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open(&self.url).await);
    }
}

pub(crate) fn settings(url: &str) -> PostgresSettings {
    PostgresSettings { limits: LIMITS, ..PostgresSettings::new(url.to_owned(), "mine".parse().unwrap()) }
}

pub(crate) async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(settings(url)).await.unwrap()
}

/// A connection beside the store's own.
pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    client
}

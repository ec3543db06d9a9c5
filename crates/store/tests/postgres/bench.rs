//! A PostgreSQL store in a database of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use dunnage_store::suite::{Bench, LIMITS};
use dunnage_store::{PostgresSettings, PostgresStore, Store};
use dunnage_testing::postgres::{Cluster, Pooler};

pub(crate) struct PostgresBench {
    store: Option<PostgresStore>,
    /// Where the store connects.
    url: String,
    /// The database itself.
    direct: String,
}

impl PostgresBench {
    pub(crate) async fn start() -> Self {
        let direct = database().await;
        Self { store: Some(open(&direct).await), url: direct.clone(), direct }
    }

    pub(crate) async fn start_pooled() -> Self {
        let direct = database().await;
        let url = tokio::task::block_in_place(|| pooled(&direct));
        Self { store: Some(open(&url).await), url, direct }
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
        let back = |columns: &[&str]| columns.iter().map(|it| format!("{it} = {it} - {by}")).collect::<Vec<_>>().join(", ");
        let of_jobs = ["run_at", "lease_expires_at", "deadline_at", "created_at", "started_at", "finished_at", "callback_due"];
        let (jobs, replicas) = (back(&of_jobs), back(&["started_at", "seen_at"]));
        sql(&self.direct, &format!("UPDATE job SET {jobs}; UPDATE replica SET {replicas}"));
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open(&self.url).await);
    }
}

/// The address of an empty database on the cluster that the tests share.
pub(crate) async fn database() -> String {
    tokio::task::block_in_place(|| Cluster::shared().database())
}

pub(crate) fn settings(url: &str) -> PostgresSettings {
    PostgresSettings { limits: LIMITS, connections: 4, ..PostgresSettings::new(url.to_owned(), "mine".parse().unwrap()) }
}

pub(crate) async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(settings(url)).await.unwrap()
}

/// The same database by way of a pooler in transaction mode, which the tests share too.
fn pooled(url: &str) -> String {
    static POOLER: OnceLock<Pooler> = OnceLock::new();
    POOLER.get_or_init(|| Pooler::start(Cluster::shared(), 4)).url(url)
}

/// Runs statements beside the store, and returns the rows.
pub(crate) fn sql(url: &str, statements: &str) -> String {
    tokio::task::block_in_place(|| Cluster::shared().sql(url, statements))
}

//! The queue.

mod attempt;
mod cancel;
mod claim;
mod ending;
mod enqueue;
mod listing;
mod prune;
mod rescue;
mod row;

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{FileAddress, Job, JobId, LogLine, NewLogLine, Progress, ReplicaId};

pub(super) use self::attempt::held;
pub(super) use self::rescue::expire_all_leases;
pub(super) use self::row::job as read;
use super::SqliteStore;
use crate::{
    Ahead, Backlog, Cancelled, ClaimedJob, Committed, Enqueued, Finish, JobFilter, JobPage, Jobs, Lease, NewJob, Renewal,
    StoreError, Terms,
};

#[async_trait]
impl Jobs for SqliteStore {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        self.write_and_tell(|hints| &hints.work, move |rows| enqueue::enqueue(rows, &job, None)).await
    }

    async fn enqueue_claimed(&self, job: NewJob, replica: ReplicaId, terms: Terms) -> Result<Committed, StoreError> {
        let committed = self.write(move |rows| enqueue::enqueue_claimed(rows, job, replica, terms)).await?;
        if committed.claimed.is_none() {
            self.hints.work.notify_one();
        }
        Ok(committed)
    }

    async fn claim(&self, replica: ReplicaId, limit: u32, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError> {
        self.write(move |rows| claim::claim(rows, replica, limit, terms)).await
    }

    async fn claim_ahead(&self, replica: ReplicaId, ahead: Ahead, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError> {
        self.write(move |rows| claim::claim_ahead(rows, replica, ahead, terms)).await
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<Job>, StoreError> {
        self.read(move |rows| claim::waiting(rows, limit)).await
    }

    async fn renew(&self, lease: Lease, by: Duration) -> Result<Renewal, StoreError> {
        self.write(move |rows| attempt::renew(rows, lease, by)).await
    }

    async fn progress(&self, lease: Lease, progress: &Progress) -> Result<(), StoreError> {
        let progress = progress.clone();
        self.write(move |rows| attempt::progress(rows, lease, &progress)).await
    }

    async fn append_log(&self, lease: Lease, lines: &[NewLogLine]) -> Result<(), StoreError> {
        let lines = lines.to_vec();
        self.write(move |rows| attempt::append_log(rows, lease, &lines)).await
    }

    async fn finish(&self, lease: Lease, finish: Finish) -> Result<(), StoreError> {
        self.write_and_tell(|hints| &hints.work, move |rows| attempt::finish(rows, lease, finish)).await?;
        self.hints.callbacks.notify_one();
        Ok(())
    }

    async fn is_settled(&self, lease: Lease) -> Result<bool, StoreError> {
        self.read(move |rows| attempt::is_settled(rows, lease)).await
    }

    async fn release(&self, lease: Lease, after: Duration) -> Result<(), StoreError> {
        self.write_and_tell(|hints| &hints.work, move |rows| attempt::release(rows, lease, after)).await
    }

    async fn rescue(&self) -> Result<u64, StoreError> {
        self.write_and_tell(|hints| &hints.work, rescue::rescue).await
    }

    async fn cancel(&self, job: JobId) -> Result<Cancelled, StoreError> {
        let cancelled = self.write_and_tell(|hints| &hints.work, move |rows| cancel::cancel(rows, job)).await?;
        self.hints.callbacks.notify_one();
        Ok(cancelled)
    }

    async fn job(&self, job: JobId) -> Result<Option<Job>, StoreError> {
        self.read(move |rows| listing::job(rows, job)).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, StoreError> {
        let filter = filter.clone();
        self.read(move |rows| listing::jobs(rows, &filter)).await
    }

    async fn log(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        self.read(move |rows| listing::log(rows, job, after, limit)).await
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Result<Vec<Vec<FileAddress>>, StoreError> {
        self.write(move |rows| prune::prune(rows, retention, limit)).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.read(listing::backlog).await
    }

    async fn work_hint(&self) {
        self.hints.work.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// With a million jobs in the table, a scan or a sort of it would hold up everything else.
    #[test]
    fn frequent_statements_go_along_an_index() {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = crate::sqlite::open::writing_connection(folder.path(), Duration::ZERO).expect("a connection");
        let list = listing::list(&JobFilter { state: Some(dunnage_types::JobState::Error), ..JobFilter::default() });
        let list_of_key = listing::list(&JobFilter { key: Some("key".to_owned()), ..JobFilter::default() });
        let statements = [
            enqueue::BY_IDEMPOTENCY_KEY,
            enqueue::LETS_PASS,
            claim::CLAIM,
            claim::CAN_WAIT,
            claim::WAITING,
            attempt::HELD,
            attempt::APPEND_LOG,
            rescue::EXPIRED,
            listing::JOB,
            listing::LOG,
            listing::BACKLOG,
            &list,
            &list_of_key,
            prune::PRUNE,
            crate::sqlite::callbacks::CLAIM,
        ];
        for statement in statements {
            let plan = plan(&connection, statement);
            assert!(
                !plan.iter().any(|step| step.starts_with("SCAN job") || step.contains("TEMP B-TREE")),
                "{statement}: {plan:#?}"
            );
        }
    }

    fn plan(connection: &Connection, statement: &str) -> Vec<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a statement");
        let steps = statement.raw_query().mapped(|row| row.get("detail"));
        steps.collect::<Result<_, _>>().expect("a plan")
    }
}

//! The queue.

mod cancel;
pub(super) mod claim;
pub(super) mod enqueue;
pub(super) mod keep;
pub(super) mod leave;
pub(super) mod listing;
pub(super) mod log;
pub(super) mod prune;
pub(super) mod rescue;
mod row;

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{FileAddress, Job, JobId, LogLine, NewLogLine, Progress, ReplicaId};

use self::claim::{Claim, Wish};
use self::enqueue::{Enqueue, Kept};
use self::keep::{Note, NoteProgress, Renew, Wanted};
use self::leave::Leave;
pub(super) use self::leave::Leaving;
pub(super) use self::leave::leave_within;
use self::log::{Append, Lines};
pub(super) use self::row::{job as read, version};
use super::batch::Batcher;
use super::connection::Pool;
use super::hints::Event;
use super::rows::json;
use super::{PostgresStore, Scope, versions};
use crate::{
    Ahead, Backlog, Cancelled, ClaimedJob, Committed, Enqueued, Finish, JobFilter, JobPage, Jobs, Lease, NewJob, Renewal,
    StoreError, Terms,
};

/// The calls that share statements, a kind each.
pub(super) struct Batches {
    enqueue: Batcher<Enqueue>,
    claim: Batcher<Claim>,
    renew: Batcher<Renew>,
    progress: Batcher<NoteProgress>,
    log: Batcher<Append>,
    leave: Batcher<Leave>,
}

impl Batches {
    pub(super) fn start(scope: &Scope, renewals: &Pool) -> Self {
        let renewing = Scope { pool: renewals.clone(), ..scope.clone() };
        Self {
            enqueue: Batcher::start(Enqueue(scope.clone())),
            claim: Batcher::start(Claim(scope.clone())),
            renew: Batcher::start(Renew(renewing)),
            progress: Batcher::start(NoteProgress(scope.clone())),
            log: Batcher::start(Append(scope.clone())),
            leave: Batcher::start(Leave(scope.clone())),
        }
    }
}

#[async_trait]
impl Jobs for PostgresStore {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        Ok(self.batches.enqueue.call(Kept::new(&job)?).await?.enqueued)
    }

    async fn enqueue_claimed(&self, job: NewJob, replica: ReplicaId, terms: Terms) -> Result<Committed, StoreError> {
        self.batches.enqueue.call(Kept::offered_to(replica, terms, job)?).await
    }

    async fn claim(&self, replica: ReplicaId, limit: u32, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError> {
        self.batches.claim.call(Wish { replica, limit, terms, ahead_of_idle: None }).await
    }

    async fn claim_ahead(&self, replica: ReplicaId, ahead: Ahead, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError> {
        // One job for an idle worker may be any, and such claims share statements.
        let ahead_of_idle = (ahead.limit != 1 || !ahead.is_idle).then_some(ahead.is_idle);
        self.batches.claim.call(Wish { replica, limit: ahead.limit, terms, ahead_of_idle }).await
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<Job>, StoreError> {
        claim::waiting(&self.scope, limit).await
    }

    async fn renew(&self, lease: Lease, by: Duration) -> Result<Renewal, StoreError> {
        self.batches.renew.call(Wanted { lease, by }).await
    }

    async fn progress(&self, lease: Lease, progress: &Progress) -> Result<(), StoreError> {
        self.batches.progress.call(Note { lease, progress: json(progress)? }).await
    }

    async fn append_log(&self, lease: Lease, lines: &[NewLogLine]) -> Result<(), StoreError> {
        self.batches.log.call(Lines { lease, lines: lines.to_vec() }).await
    }

    async fn finish(&self, lease: Lease, finish: Finish) -> Result<(), StoreError> {
        match finish {
            Finish::Done { activate: Some(version), .. } => {
                versions::finish_and_activate(&self.scope, lease, &finish, version).await
            }
            finish => self.batches.leave.call(Leaving::finish(lease, &finish)?).await,
        }
    }

    async fn is_settled(&self, lease: Lease) -> Result<bool, StoreError> {
        leave::is_settled(&self.scope, lease).await
    }

    async fn release(&self, lease: Lease, after: Duration) -> Result<(), StoreError> {
        self.batches.leave.call(Leaving::release(lease, after)).await
    }

    async fn rescue(&self) -> Result<u64, StoreError> {
        rescue::rescue(&self.scope).await
    }

    async fn cancel(&self, job: JobId) -> Result<Cancelled, StoreError> {
        cancel::cancel(&self.scope, job).await
    }

    async fn job(&self, job: JobId) -> Result<Option<Job>, StoreError> {
        listing::job(&self.scope, job).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, StoreError> {
        listing::jobs(&self.scope, filter).await
    }

    async fn log(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        log::read(&self.scope, job, after, limit).await
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Result<Vec<Vec<FileAddress>>, StoreError> {
        prune::prune(&self.scope, retention, limit).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        listing::backlog(&self.scope).await
    }

    async fn work_hint(&self) {
        self.waiters.wait(Event::Work).await;
    }
}

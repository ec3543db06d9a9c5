//! Handing out jobs.

use std::error::Error;
use std::time::SystemTime;

use async_trait::async_trait;
use dunnage_types::{Job, JobError, JobId, ReplicaId, Version};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::leave::{Leaving, leave};
use super::row;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::rows::{Unreadable, corrupt, get, limit as sql_limit, seconds};
use crate::{ClaimedJob, Finish, Lease, StoreError, Terms};

/// Jobs that are due and become running ones; the last parameter says which may be claimed ahead, as [`Wish::ahead_of_idle`].
pub(in crate::postgres) const CLAIM: &str = "SELECT (claimed).*, active FROM claim_jobs($1, $2, $3, $4, $5, $6)";

/// The jobs that are due, as `claim_jobs` finds them, in their order.
pub(in crate::postgres) const WAITING: &str = "
    SELECT candidate.* FROM job AS candidate
    WHERE candidate.service = $1 AND candidate.state = 'queued' AND candidate.run_at <= now() AND candidate.kind IN ('train', 'input')
      AND (candidate.key IS NULL OR NOT EXISTS (
          SELECT 1 FROM job AS earlier
          WHERE earlier.service || ' ' || earlier.key = $1 || ' ' || candidate.key AND earlier.key IS NOT NULL
            AND earlier.finished_at IS NULL AND earlier.seq < candidate.seq))
    ORDER BY candidate.run_at, candidate.seq
    LIMIT $2";

/// A wish for jobs.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) replica: ReplicaId,
    pub(super) limit: u32,
    pub(super) terms: Terms,
    /// What may be claimed ahead of a worker, and whether that is idle; anything at all if there is nothing here.
    pub(super) ahead_of_idle: Option<bool>,
}

impl Wish {
    /// The jobs claimed ahead of a worker must not be dealt out to others.
    fn can_share_with(&self, other: &Self) -> bool {
        (self.replica, self.terms) == (other.replica, other.terms) && self.ahead_of_idle.or(other.ahead_of_idle).is_none()
    }
}

pub(super) struct Claim(pub(super) Scope);

#[async_trait]
impl Batch for Claim {
    type Call = Wish;
    type Answer = Vec<ClaimedJob>;
    /// What was claimed unheard is held until its lease ends; nobody may claim more for it.
    const IS_REPEATABLE: bool = false;

    fn job(_: &Wish) -> Option<JobId> {
        None
    }

    /// Wishes that differ in more than their limit each take a statement of their own, and fail on their own.
    async fn run(&self, wishes: &[Wish]) -> Result<Vec<Result<Vec<ClaimedJob>, StoreError>>, StoreError> {
        let mut answers = Vec::with_capacity(wishes.len());
        for alike in wishes.chunk_by(Wish::can_share_with) {
            match self.claim(alike).await {
                Ok(claimed) => deal(claimed, alike, &mut answers),
                Err(error) if wishes.len() == alike.len() => return Err(error),
                Err(error) => answers.extend(crate::postgres::batch::for_all(error, alike.len())),
            }
        }
        Ok(answers)
    }
}

impl Claim {
    async fn claim(&self, wishes: &[Wish]) -> Result<Vec<ClaimedJob>, StoreError> {
        let (first, limit) = (wishes[0], wishes.iter().map(|wish| i64::from(wish.limit)).sum::<i64>());
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (lease, attempt) = (seconds(first.terms.lease), seconds(first.terms.limit));
        let replica = first.replica.as_uuid();
        let parameters = [
            self.0.service(),
            (&limit as _, Type::INT8),
            (&replica, Type::UUID),
            (&lease, Type::FLOAT8),
            (&attempt, Type::FLOAT8),
            (&first.ahead_of_idle, Type::BOOL),
        ];
        let mut rows = self.0.once(CLAIM, &parameters).await?;
        rows.sort_by_cached_key(|row| (row.get::<_, SystemTime>("run_at"), row.get::<_, i64>("seq")));
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            match read(row) {
                Ok(job) => claimed.push(job),
                Err(error) => self.end_unreadable(row, &error).await,
            }
        }
        Ok(claimed)
    }

    /// Ends a job that no attempt can read, lest it stand before the others for ever. Should that fail, its lease runs out, and the
    /// others that were claimed with it are handed out all the same.
    async fn end_unreadable(&self, row: &Row, error: &StoreError) {
        tracing::error!(%error, source = error.source(), "a job cannot be read; it ends in `error`");
        let error = JobError {
            code: "job_unreadable".to_owned(),
            message: "the database holds this job in a form that cannot be read; submit it again".to_owned(),
            traceback: None,
        };
        let ended = async {
            let lease = lease(row).map_err(corrupt("the lease of a job"))?;
            leave(&self.0, &[Leaving::finish(lease, &Finish::Failed(error))?]).await
        };
        if let Err(error) = ended.await {
            tracing::error!(%error, source = error.source(), "a job that cannot be read could not be ended either");
        }
    }
}

/// The jobs that would be claimed next, less those that a claim would find unreadable.
pub(super) async fn waiting(scope: &Scope, limit: u32) -> Result<Vec<Job>, StoreError> {
    let limit = sql_limit(limit);
    let rows = scope.repeatable(WAITING, &[scope.service(), (&limit, Type::INT8)]).await?;
    Ok(rows.iter().filter_map(|row| row::job(row).ok()).collect())
}

fn read(row: &Row) -> Result<ClaimedJob, StoreError> {
    let job = row::job(row)?;
    let lease = lease(row).map_err(corrupt(format_args!("the lease of job `{}`", job.id)))?;
    let active = active(row).map_err(corrupt("the number of the active version"))?;
    Ok(ClaimedJob { job, lease, active })
}

pub(super) fn active(row: &Row) -> Result<Option<Version>, Unreadable> {
    get::<Option<i64>>(row, "active")?.map(row::version).transpose()
}

fn lease(row: &Row) -> Result<Lease, Unreadable> {
    Ok(Lease { job: get::<uuid::Uuid>(row, "id")?.into(), number: get(row, "lease")? })
}

/// The oldest jobs go to those who came first.
fn deal(claimed: Vec<ClaimedJob>, wishes: &[Wish], answers: &mut Vec<Result<Vec<ClaimedJob>, StoreError>>) {
    let mut rest = claimed.into_iter();
    answers.extend(wishes.iter().map(|wish| Ok(rest.by_ref().take(wish.limit as usize).collect())));
}

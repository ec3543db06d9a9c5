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

/// The jobs that are due, as `candidate`.
///
/// Because the order of `seq` is the order of commits within a key (see [`super::enqueue::INSERT`]), an unfinished job of the same
/// key with a higher `seq` can never be running.
macro_rules! all_due {
    () => {
        "FROM job AS candidate
        WHERE candidate.service = $1 AND candidate.state = 'queued' AND candidate.run_at <= now()
          AND candidate.kind IN ('train', 'input')
          AND (candidate.key IS NULL OR NOT EXISTS (
              SELECT 1 FROM job AS earlier
              WHERE earlier.service = $1 AND earlier.key = candidate.key AND earlier.finished_at IS NULL
                AND earlier.seq < candidate.seq))"
    };
}
pub(super) use all_due;

/// Those of them that are next, in their order; the second parameter is how many at most.
macro_rules! due {
    () => {
        concat!(
            all_due!(),
            "
        ORDER BY candidate.run_at, candidate.seq
        LIMIT $2"
        )
    };
}

/// Whether a job may be claimed ahead, as a condition on `candidate`.
macro_rules! can_wait {
    () => {
        "(candidate.kind = 'input' AND candidate.lease = 0 AND candidate.max_attempts > 1)"
    };
}
pub(super) use can_wait;

/// How a job becomes one that runs. The active version is read along: one snapshot shows both it and the jobs.
macro_rules! begin {
    ($chosen:literal) => {
        concat!(
            "
    UPDATE job
    SET state = 'running', attempt = attempt + 1, lease = lease + 1, replica = $3, lease_expires_at = now() + make_interval(secs => $4),
        deadline_at = now() + make_interval(secs => $5), started_at = now(), progress = NULL
    FROM ",
            $chosen,
            "
    RETURNING job.*, (SELECT number FROM version WHERE service = $1 AND active) AS active"
        )
    };
}

/// The rows are chosen before they are changed: as a plain sub-select the choice could be made again for each row, and more rows than
/// the limit be changed.
pub(in crate::postgres) const CLAIM: &str = concat!(
    "
    WITH due AS MATERIALIZED (
        SELECT candidate.seq ",
    due!(),
    "
        FOR NO KEY UPDATE SKIP LOCKED)",
    begin!("due WHERE job.seq = due.seq")
);

/// The same as far as jobs may be claimed ahead; the first may be any if the worker is idle, and then it is the only one.
pub(in crate::postgres) const CLAIM_AHEAD: &str = concat!(
    "
    WITH due AS MATERIALIZED (
        SELECT candidate.seq, candidate.run_at, ",
    can_wait!(),
    " AS can_wait ",
    due!(),
    "
        FOR NO KEY UPDATE SKIP LOCKED),
    chosen AS (
        SELECT seq, row_number() OVER queue AS place, bool_and(can_wait) OVER queue AS can_wait
        FROM due WINDOW queue AS (ORDER BY run_at, seq))",
    begin!("chosen WHERE job.seq = chosen.seq AND (chosen.can_wait OR chosen.place = 1 AND $6)")
);

pub(in crate::postgres) const WAITING: &str = concat!("SELECT candidate.* ", due!());

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
        let mut parameters = vec![
            self.0.service(),
            (&limit as _, Type::INT8),
            (&replica, Type::UUID),
            (&lease, Type::FLOAT8),
            (&attempt, Type::FLOAT8),
        ];
        let mut rows = match &first.ahead_of_idle {
            None => self.0.once(CLAIM, &parameters).await?,
            Some(is_idle) => {
                parameters.push((is_idle, Type::BOOL));
                self.0.once(CLAIM_AHEAD, &parameters).await?
            }
        };
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

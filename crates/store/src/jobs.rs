//! Jobs, from enqueue to their terminal state.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{
    Callback, CallbackState, FileAddress, Job, JobError, JobId, JobKind, JobState, JsonObject, LogLine, NewLogLine, Progress,
    ReplicaId, Timestamp, Version,
};
use serde_json::Value;

use crate::StoreError;

/// How long a job that is due may be passed by those that are handed out with their commits.
pub(crate) const PASSED_BY: Duration = Duration::from_millis(50);

/// The queue of a service.
///
/// A job that [`Jobs::enqueue`] has answered is committed and ends in exactly one terminal state. It runs at least once and
/// at most `max_attempts` times; only the attempt that holds the newest [`Lease`] can change it.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Commits a new job, or finds the one that was made before under the same idempotency key.
    ///
    /// # Errors
    ///
    /// [`StoreError::IdempotencyMismatch`] if the key was used for another request.
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError>;

    /// Does as [`Jobs::enqueue`], and hands a new job out to `replica` with the same commit, as [`Jobs::claim_ahead`] would, if it may be
    /// passed by the queue: it [can be](NewJob::can_pass_by), nothing that is due must be run by itself before it, and nothing
    /// has been due for longer than 50 ms. So nobody whose turn it is waits for longer than that because of others that came later.
    ///
    /// A job that was handed out unheard is held until its lease ends, like one that was claimed.
    ///
    /// # Errors
    ///
    /// As for [`Jobs::enqueue`].
    async fn enqueue_claimed(&self, job: NewJob, replica: ReplicaId, terms: Terms) -> Result<Committed, StoreError>;

    /// Hands up to `limit` of the oldest jobs that are due to `replica`; fewer, or none, when fewer are waiting.
    ///
    /// The claim is a lease, not a lock: it ends when its time has passed without a renewal, or when the attempt takes longer
    /// than it may, by the database's clock, and the job may then go to another replica. A job can therefore run more than
    /// once. An attempt is charged now, so that a job that kills its worker also runs out. Of the jobs with the same key only
    /// the oldest unfinished one is handed out. A claim whose answer was lost ends with its lease.
    async fn claim(&self, replica: ReplicaId, limit: u32, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError>;

    /// Hands out jobs for one worker, of which all but one have to wait for their turn in the hands of the replica.
    ///
    /// They are those that [`Jobs::claim`] would hand out, in its order, up to the first that may not be claimed ahead: training, or a
    /// job that has been claimed before, or one that has a single attempt. Such a job is handed out by itself, and only to a worker that
    /// is idle. So the others are not held up behind it, it meets what was committed before, and whatever becomes of the replica, a
    /// job loses at most one of several attempts without having been run.
    async fn claim_ahead(&self, replica: ReplicaId, ahead: Ahead, terms: Terms) -> Result<Vec<ClaimedJob>, StoreError>;

    /// Up to `limit` of the jobs that [`Jobs::claim`] would hand out next, in its order, without claiming them: due, and first of their
    /// keys. For whoever wants to make something ready for them.
    ///
    /// Only a hint: no row is locked, so each may have been claimed, here or elsewhere, by the time it is looked at. Jobs that cannot be
    /// read are left out; a claim ends them.
    async fn waiting(&self, limit: u32) -> Result<Vec<Job>, StoreError>;

    /// Prolongs a lease to `by` from now, and tells whether the job's cancellation has been asked for.
    ///
    /// # Errors
    ///
    /// [`StoreError::Superseded`], as for every call that takes a lease.
    async fn renew(&self, lease: Lease, by: Duration) -> Result<Renewal, StoreError>;

    /// Notes how far the attempt has come, instead of what was noted before.
    async fn progress(&self, lease: Lease, progress: &Progress) -> Result<(), StoreError>;

    /// Appends lines to the job's log.
    async fn append_log(&self, lease: Lease, lines: &[NewLogLine]) -> Result<(), StoreError>;

    /// Ends the attempt, and with it the job unless it is to be tried again.
    async fn finish(&self, lease: Lease, finish: Finish) -> Result<(), StoreError>;

    /// Whether the attempt itself has ended its job, or handed it back: for a holder whose call of [`Jobs::finish`] or
    /// [`Jobs::release`] was not answered, and that is told [`StoreError::Superseded`] when it asks again.
    async fn is_settled(&self, lease: Lease) -> Result<bool, StoreError>;

    /// Hands the job back without charging the attempt, which was not its own fault: the server is shutting down, or what the job needs
    /// is away for now. It is due again `after` this time; the lease number still rises with the next claim.
    async fn release(&self, lease: Lease, after: Duration) -> Result<(), StoreError>;

    /// Returns the jobs whose lease or time has ended to the queue, or ends them when their attempts are used up or their
    /// cancellation was asked for; how many. Any replica may do so at any time; each row is its own guarded update.
    async fn rescue(&self) -> Result<u64, StoreError>;

    /// Cancels a job: at once when it is queued, by asking its holder when it is running. Doing so again changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownJob`].
    async fn cancel(&self, job: JobId) -> Result<Cancelled, StoreError>;

    /// One job, or `None` if it never existed or its retention has ended.
    async fn job(&self, job: JobId) -> Result<Option<Job>, StoreError>;

    /// The jobs that fit, newest first.
    async fn jobs(&self, filter: &JobFilter) -> Result<JobPage, StoreError>;

    /// Up to `limit` lines of a job's log behind the line numbered `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownJob`].
    async fn log(&self, job: JobId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError>;

    /// Removes up to `limit` jobs that ended longer than `retention` ago and whose callbacks are not pending, with their logs and
    /// idempotency keys; the addresses of their files, so that uploads can be removed too.
    async fn prune(&self, retention: Duration, limit: u32) -> Result<Vec<Vec<FileAddress>>, StoreError>;

    /// How much is waiting and running.
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// Returns when a job may have become due since the last return: one was enqueued, released or freed by another of its
    /// key. Only a hint, and one from this process alone at worst: poll as well.
    async fn work_hint(&self);
}

/// A job to be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its name, drawn by the caller so that a retried commit cannot make two.
    pub id: JobId,
    /// What it runs.
    pub kind: JobKind,
    /// Its files.
    pub files: Vec<FileAddress>,
    /// The client's `Params`.
    pub params: JsonObject,
    /// Jobs of the same key run one at a time, in order.
    pub key: Option<String>,
    /// Set when the client sent `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// Where to post the end of the job to.
    pub callback: Option<String>,
    /// The object to write the result to, already with its final key; only the S3 form makes sense.
    pub output_uri: Option<FileAddress>,
    /// How many attempts may be started; at least 1.
    pub max_attempts: u32,
}

impl NewJob {
    /// Whether the job may be handed out without having been in the queue: no other has to be run before it, and it may wait for a
    /// worker, see [`Jobs::claim_ahead`].
    #[must_use]
    pub fn can_pass_by(&self) -> bool {
        self.kind == JobKind::Input && self.key.is_none() && self.max_attempts > 1
    }

    /// The job as it is when it was committed at `now` together with its first claim.
    pub(crate) fn claimed(self, now: Timestamp, active: Option<Version>) -> ClaimedJob {
        let callback = self.callback.map(|url| Callback { url, state: CallbackState::Pending, attempts: 0, error: None });
        let job = Job {
            id: self.id,
            kind: self.kind,
            state: JobState::Running,
            files: self.files,
            params: self.params,
            key: self.key,
            attempt: 1,
            max_attempts: self.max_attempts,
            progress: None,
            error: None,
            result: None,
            version: None,
            cancel_requested: false,
            callback,
            output_uri: self.output_uri,
            created_at: now,
            started_at: Some(now),
            finished_at: None,
        };
        ClaimedJob { lease: Lease { job: job.id, number: 1 }, job, active }
    }
}

/// What makes a repeated request the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key.
    pub key: String,
    /// A digest of the request.
    pub digest: Vec<u8>,
}

/// What [`Jobs::enqueue`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// A new job was committed.
    Created(JobId),
    /// The same request had made this job before.
    Existing(JobId),
}

impl Enqueued {
    /// The job, whoever made it.
    #[must_use]
    pub fn id(self) -> JobId {
        match self {
            Self::Created(id) | Self::Existing(id) => id,
        }
    }
}

/// What [`Jobs::enqueue_claimed`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Whether there is a new job.
    pub enqueued: Enqueued,
    /// The new job, if it was handed out; otherwise it waits like any other.
    pub claimed: Option<ClaimedJob>,
}

/// The fenced right to finish one attempt at a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// Rises with each claim of the job and is never reset, unlike the attempt.
    pub number: i64,
}

/// How long a claim lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long the holder may go without a renewal: what notices that a replica has died.
    pub lease: Duration,
    /// How long the attempt may take in all, renewed or not: what notices that a replica hangs.
    pub limit: Duration,
}

/// How many jobs a worker can do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// At most so many, together with the one that runs at once.
    pub limit: u32,
    /// Whether the worker has nothing to do and nothing that waits for it.
    pub is_idle: bool,
}

/// A job and the right to finish it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// The job, as it is after the claim.
    pub job: Job,
    /// The right to finish it.
    pub lease: Lease,
    /// The version that was active at the claim: no older than any that was active when the job was committed.
    pub active: Option<Version>,
}

impl ClaimedJob {
    /// Whether the job may be claimed ahead, and others behind it; see [`Jobs::claim_ahead`].
    #[must_use]
    pub fn can_wait(&self) -> bool {
        self.job.kind == JobKind::Input && self.lease.number == 1 && self.job.max_attempts > 1
    }
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Whether the holder should cancel the job.
    pub cancel_requested: bool,
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// The script returned: the job is `done`.
    Done {
        /// What it returned.
        result: Value,
        /// The version it published; becomes the active one in the same transaction.
        activate: Option<Version>,
    },
    /// The script failed for good: the job is in `error`.
    Failed(JobError),
    /// The attempt was lost or asked to be repeated: the job is queued again, or in `error` when its attempts are used up, or
    /// cancelled when that was asked for.
    Retry {
        /// Why the attempt failed.
        error: JobError,
        /// How long to wait at least; [`backoff`] where nobody says.
        after: Duration,
    },
    /// A client wanted it so: the job is `cancelled`.
    Cancelled,
}

/// What [`Jobs::cancel`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was queued and is now cancelled.
    Now,
    /// It is running; its holder will end it.
    Requested,
    /// It had ended before, in this state.
    Already(JobState),
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs of this kind.
    pub kind: Option<JobKind>,
    /// Only jobs of this key.
    pub key: Option<String>,
    /// Only jobs older than this cursor, from [`JobPage::next`].
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Some jobs, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins, if there is one.
    pub next: Option<i64>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Jobs that wait, due or not.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// When the oldest waiting job was committed.
    pub oldest_queued: Option<Timestamp>,
}

/// How long to wait before the attempt that follows attempt number `attempt`: 1 s doubled with each attempt, at most 5 min,
/// less a random quarter so that many jobs do not return at once.
#[must_use]
pub fn backoff(attempt: u32) -> Duration {
    let doubled = Duration::from_secs(1) * 2_u32.saturating_pow(attempt.saturating_sub(1).min(9));
    doubled.min(Duration::from_mins(5)).mul_f64(rand::random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_a_limit() {
        let within = |attempt, seconds: u64| {
            let wait = backoff(attempt);
            wait <= Duration::from_secs(seconds) && wait >= Duration::from_secs(seconds) * 3 / 4
        };
        assert!(within(1, 1) && within(2, 2) && within(3, 4) && within(10, 300) && within(u32::MAX, 300));
    }
}

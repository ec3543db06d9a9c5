//! Committing a new job.

use dunnage_types::{JobId, JobState, ReplicaId};
use rusqlite::named_params;

use super::claim::{active, all_due, can_wait};
use crate::jobs::PASSED_BY;
use crate::sqlite::rows::{Json, Rows, Word, earlier, later};
use crate::{Committed, Enqueued, Idempotency, NewJob, StoreError, Terms};

const INSERT: &str = "
    INSERT INTO job (service, id, kind, state, files, params, key, idempotency_key, digest, max_attempts, callback, callback_state,
                     output_uri, run_at, created_at, attempt, lease, replica, lease_expires_at, deadline_at, started_at)
    VALUES (:service, :id, :kind, :state, :files, :params, :key, :idempotency_key, :digest, :max_attempts, :callback,
            iif(:callback IS NULL, NULL, 'pending'), :output_uri, :now, :now, :claims, :claims, :replica, :expires, :deadline, :started)
    ON CONFLICT (service, id) DO NOTHING";

pub(super) const BY_IDEMPOTENCY_KEY: &str = "SELECT id, digest FROM job WHERE service = :service AND idempotency_key = :key";

/// Whether nothing is due that no other job may pass by; see [`Jobs::enqueue_claimed`](crate::Jobs::enqueue_claimed).
pub(super) const LETS_PASS: &str = concat!(
    "SELECT NOT EXISTS (SELECT 1 ",
    all_due!(),
    " AND (NOT ",
    can_wait!(),
    " OR candidate.run_at < :passed_by)) AS lets_pass"
);

/// Commits a job that `replica` would run at once, if it may be.
pub(super) fn enqueue_claimed(rows: &Rows<'_>, job: NewJob, replica: ReplicaId, terms: Terms) -> Result<Committed, StoreError> {
    let taker = (job.can_pass_by() && lets_pass(rows)?).then_some((replica, terms));
    let enqueued = enqueue(rows, &job, taker)?;
    let is_claimed = taker.is_some() && matches!(enqueued, Enqueued::Created(_));
    let claimed = if is_claimed { Some(job.claimed(rows.now, active(rows)?)) } else { None };
    Ok(Committed { enqueued, claimed })
}

fn lets_pass(rows: &Rows<'_>) -> Result<bool, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":now": rows.now.0, ":passed_by": earlier(rows.now, PASSED_BY) };
    Ok(rows.first(LETS_PASS, parameters, |row| row.get("lets_pass"))?.unwrap_or(false))
}

/// Commits a job; claimed, if somebody takes it.
pub(super) fn enqueue(rows: &Rows<'_>, job: &NewJob, taker: Option<(ReplicaId, Terms)>) -> Result<Enqueued, StoreError> {
    if let Some(idempotency) = &job.idempotency
        && let Some(existing) = made_before(rows, idempotency)?
    {
        return Ok(Enqueued::Existing(existing));
    }
    let inserted = rows.execute(
        INSERT,
        named_params! {
            ":service": rows.service,
            ":id": Word(job.id),
            ":kind": Word(job.kind),
            ":files": Json(&job.files),
            ":params": Json(&job.params),
            ":key": job.key,
            ":idempotency_key": job.idempotency.as_ref().map(|idempotency| &idempotency.key),
            ":digest": job.idempotency.as_ref().map(|idempotency| &idempotency.digest),
            ":max_attempts": job.max_attempts,
            ":callback": job.callback,
            ":output_uri": job.output_uri.as_ref().map(Word),
            ":now": rows.now.0,
            ":state": Word(if taker.is_some() { JobState::Running } else { JobState::Queued }),
            ":claims": i64::from(taker.is_some()),
            ":replica": taker.map(|(replica, _)| Word(replica)),
            ":expires": taker.map(|(_, terms)| later(rows.now, terms.lease)),
            ":deadline": taker.map(|(_, terms)| later(rows.now, terms.limit)),
            ":started": taker.map(|_| rows.now.0),
        },
    )?;
    // A caller that did not hear of its commit asks again with the id it drew.
    Ok(if inserted == 0 { Enqueued::Existing(job.id) } else { Enqueued::Created(job.id) })
}

fn made_before(rows: &Rows<'_>, idempotency: &Idempotency) -> Result<Option<JobId>, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":key": idempotency.key };
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Word<JobId>>("id")?.0, row.get::<_, Vec<u8>>("digest")?));
    match rows.first(BY_IDEMPOTENCY_KEY, parameters, read)? {
        Some((_, digest)) if digest != idempotency.digest => Err(StoreError::IdempotencyMismatch),
        found => Ok(found.map(|(job, _)| job)),
    }
}

//! Committing a new job.

use dunnage_types::JobId;
use rusqlite::named_params;

use crate::sqlite::rows::{Json, Rows, Word};
use crate::{Enqueued, Idempotency, NewJob, StoreError};

const INSERT: &str = "
    INSERT INTO job (service, id, kind, state, files, params, key, idempotency_key, digest, max_attempts, callback, callback_state,
                     output_uri, run_at, created_at)
    VALUES (:service, :id, :kind, 'queued', :files, :params, :key, :idempotency_key, :digest, :max_attempts, :callback,
            iif(:callback IS NULL, NULL, 'pending'), :output_uri, :now, :now)
    ON CONFLICT (service, id) DO NOTHING";

pub(super) const BY_IDEMPOTENCY_KEY: &str = "SELECT id, digest FROM job WHERE service = :service AND idempotency_key = :key";

pub(super) fn enqueue(rows: &Rows<'_>, job: &NewJob) -> Result<Enqueued, StoreError> {
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

//! Jobs whose holder is gone.

use dunnage_types::{JobError, Timestamp};
use rusqlite::{Connection, named_params};

use super::attempt::Held;
use super::ending::retry;
use crate::lost::{exhausted, lost};
use crate::sqlite::rows::{Json, Rows};
use crate::{StoreError, backoff};

pub(super) const EXPIRED: &str = "
    SELECT seq, attempt, max_attempts, cancel_requested, lease_expires_at > :now AS renewed FROM job
    WHERE service = :service AND state = 'running' AND (lease_expires_at <= :now OR deadline_at <= :now)";

const LAST_ERROR: &str = "SELECT error FROM job WHERE seq = :seq";

/// Ends every lease, of every service: whoever holds the folder's lock knows that the former holders are gone.
pub(in crate::sqlite) fn expire_all_leases(connection: &Connection) -> Result<(), StoreError> {
    let now = Timestamp::now().0;
    connection.execute("UPDATE job SET lease_expires_at = min(lease_expires_at, ?1) WHERE state = 'running'", [now])?;
    Ok(())
}

/// Each job for itself: one that cannot be returned is reported and left for the next time, and the others go on.
pub(super) fn rescue(rows: &Rows<'_>) -> Result<u64, StoreError> {
    let parameters = named_params! { ":service": rows.service, ":now": rows.now.0 };
    let expired = rows.all(EXPIRED, parameters, |row| Ok::<_, StoreError>((Held::read(row)?, row.get("renewed")?)))?;
    let mut rescued = 0;
    for (held, renewed) in &expired {
        match return_to_queue(rows, held, *renewed) {
            Ok(()) => rescued += 1,
            Err(error) if rows.connection.is_autocommit() => return Err(error),
            Err(error) => tracing::error!(%error, seq = held.seq, "a job whose lease has ended could not be rescued"),
        }
    }
    Ok(rescued)
}

fn return_to_queue(rows: &Rows<'_>, held: &Held, renewed: bool) -> Result<(), StoreError> {
    let lost = lost(held.attempt, held.max_attempts, renewed);
    let error = if held.is_last_attempt() { exhausted(&lost, last_error(rows, held.seq)?) } else { lost };
    retry(rows, held, &error, backoff(held.attempt))
}

/// Why the attempt before failed; `None` also if it cannot be read, which must not keep the job from ending.
fn last_error(rows: &Rows<'_>, seq: i64) -> Result<Option<JobError>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| Ok(row.get::<_, Option<Json<JobError>>>("error").ok().flatten());
    Ok(rows.first(LAST_ERROR, named_params! { ":seq": seq }, read)?.flatten().map(|json| json.0))
}

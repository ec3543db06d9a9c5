//! The end of retention.

use std::time::Duration;

use dunnage_types::FileAddress;
use rusqlite::{Row, named_params};

use crate::StoreError;
use crate::sqlite::rows::{Json, Rows};

pub(super) const PRUNE: &str = "
    DELETE FROM job
    WHERE seq IN (
        SELECT seq FROM job WHERE service = :service AND finished_at < :before AND callback_due IS NULL
        ORDER BY finished_at LIMIT :limit)
    RETURNING id, files";

pub(super) fn prune(rows: &Rows<'_>, retention: Duration, limit: u32) -> Result<Vec<Vec<FileAddress>>, StoreError> {
    let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let before = rows.now.0.saturating_sub(retention);
    rows.all(PRUNE, named_params! { ":service": rows.service, ":before": before, ":limit": limit }, |row| {
        Ok::<_, StoreError>(files(row))
    })
}

/// A list that cannot be read does not keep its job from going.
fn files(row: &Row<'_>) -> Vec<FileAddress> {
    row.get::<_, Json<_>>("files").map(|json| json.0).unwrap_or_else(|error| {
        let job = row.get::<_, String>("id").unwrap_or_default();
        tracing::warn!(%error, job, "the files of a removed job cannot be read; uploads among them stay");
        Vec::new()
    })
}

//! The end of retention.

use std::time::Duration;

use dunnage_types::FileAddress;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::row;
use crate::StoreError;
use crate::postgres::Scope;
use crate::postgres::rows::{get_json, limit as sql_limit, seconds};

/// Replicas that do so at the same time remove different jobs. The rows are chosen before any is removed, lest the choice be made
/// again and more go than the limit says.
pub(in crate::postgres) const PRUNE: &str = "
    WITH old AS MATERIALIZED (
        SELECT seq FROM job
        WHERE service = $1 AND finished_at < now() - make_interval(secs => $2) AND callback_due IS NULL
        ORDER BY finished_at
        LIMIT $3
        FOR UPDATE SKIP LOCKED)
    DELETE FROM job USING old
    WHERE job.seq = old.seq
    RETURNING job.id, job.files";

pub(super) async fn prune(scope: &Scope, retention: Duration, limit: u32) -> Result<Vec<Vec<FileAddress>>, StoreError> {
    let (retention, limit) = (seconds(retention), sql_limit(limit));
    let rows = scope.once(PRUNE, &[scope.service(), (&retention, Type::FLOAT8), (&limit, Type::INT8)]).await?;
    Ok(rows.iter().map(files).collect())
}

/// A list that cannot be read does not keep its job from going.
fn files(row: &Row) -> Vec<FileAddress> {
    get_json(row, "files").unwrap_or_else(|error| {
        let job = row::id(row).map(|id| id.to_string()).unwrap_or_default();
        tracing::warn!(%error, job, "the files of a removed job cannot be read; uploads among them stay");
        Vec::new()
    })
}

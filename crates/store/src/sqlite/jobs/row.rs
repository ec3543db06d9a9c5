//! A job's row as a [`Job`].

use std::error::Error;

use dunnage_types::{Callback, Job, JobId, Timestamp, Version};
use rusqlite::Row;

use crate::StoreError;
use crate::sqlite::rows::{Json, Word};

/// Reads a job from a row with all columns.
pub(in crate::sqlite) fn job(row: &Row<'_>) -> Result<Job, StoreError> {
    decode(row).map_err(|source| {
        let name = row.get("id").unwrap_or_else(|_| "with an unreadable id".to_owned());
        StoreError::Corrupt { what: format!("a job `{name}`"), source }
    })
}

fn decode(row: &Row<'_>) -> Result<Job, Box<dyn Error + Send + Sync>> {
    let version = row.get::<_, Option<u32>>("version")?;
    Ok(Job {
        id: row.get::<_, Word<JobId>>("id")?.0,
        kind: row.get::<_, Word<_>>("kind")?.0,
        state: row.get::<_, Word<_>>("state")?.0,
        files: row.get::<_, Json<_>>("files")?.0,
        params: row.get::<_, Json<_>>("params")?.0,
        key: row.get("key")?,
        attempt: row.get("attempt")?,
        max_attempts: row.get("max_attempts")?,
        progress: row.get::<_, Option<Json<_>>>("progress")?.map(|json| json.0),
        error: row.get::<_, Option<Json<_>>>("error")?.map(|json| json.0),
        result: row.get::<_, Option<Json<_>>>("result")?.map(|json| json.0),
        version: version.map(|number| Version::new(number).ok_or("version 0 does not exist")).transpose()?,
        cancel_requested: row.get("cancel_requested")?,
        callback: callback(row)?,
        output_uri: row.get::<_, Option<Word<_>>>("output_uri")?.map(|word| word.0),
        created_at: Timestamp(row.get("created_at")?),
        started_at: row.get::<_, Option<i64>>("started_at")?.map(Timestamp),
        finished_at: row.get::<_, Option<i64>>("finished_at")?.map(Timestamp),
    })
}

fn callback(row: &Row<'_>) -> rusqlite::Result<Option<Callback>> {
    let Some(url) = row.get("callback")? else { return Ok(None) };
    let state = row.get::<_, Word<_>>("callback_state")?.0;
    Ok(Some(Callback { url, state, attempts: row.get("callback_attempts")?, error: row.get("callback_error")? }))
}

//! A job's row as a [`Job`].

use dunnage_types::{Callback, Job, JobId, Version};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::StoreError;
use crate::postgres::rows::{
    Unreadable, corrupt, get, get_json, get_number, get_optional_json, get_optional_time, get_time, get_word,
};

/// Reads a job from a row with all columns.
pub(in crate::postgres) fn job(row: &Row) -> Result<Job, StoreError> {
    let name = get::<Uuid>(row, "id").map_or_else(|_| "with an unreadable id".to_owned(), |id| id.to_string());
    decode(row).map_err(corrupt(format_args!("a job `{name}`")))
}

pub(in crate::postgres) fn id(row: &Row) -> Result<JobId, StoreError> {
    get::<Uuid>(row, "id").map(JobId::from).map_err(corrupt("the id of a job"))
}

fn decode(row: &Row) -> Result<Job, Unreadable> {
    Ok(Job {
        id: get::<Uuid>(row, "id")?.into(),
        kind: get_word(row, "kind")?,
        state: get_word(row, "state")?,
        files: get_json(row, "files")?,
        params: get_json(row, "params")?,
        key: get_optional_json(row, "key")?,
        attempt: get_number(row, "attempt")?,
        max_attempts: get_number(row, "max_attempts")?,
        progress: get_optional_json(row, "progress")?,
        error: get_optional_json(row, "error")?,
        result: get_optional_json(row, "result")?,
        version: get::<Option<i64>>(row, "version")?.map(version).transpose()?,
        cancel_requested: get(row, "cancel_requested")?,
        callback: callback(row)?,
        output_uri: get_optional_json(row, "output_uri")?,
        created_at: get_time(row, "created_at")?,
        started_at: get_optional_time(row, "started_at")?,
        finished_at: get_optional_time(row, "finished_at")?,
    })
}

pub(in crate::postgres) fn version(number: i64) -> Result<Version, Unreadable> {
    Ok(Version::new(u32::try_from(number)?).ok_or("version 0 does not exist")?)
}

fn callback(row: &Row) -> Result<Option<Callback>, Unreadable> {
    let Some(url) = get_optional_json(row, "callback")? else { return Ok(None) };
    let (state, attempts) = (get_word(row, "callback_state")?, get_number(row, "callback_attempts")?);
    Ok(Some(Callback { url, state, attempts, error: get_optional_json(row, "callback_error")? }))
}

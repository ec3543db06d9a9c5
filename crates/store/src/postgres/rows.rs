//! How values are kept in columns.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunnage_types::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::StoreError;

/// Longer than anybody waits, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Why a column cannot be read.
pub(super) type Unreadable = Box<dyn Error + Send + Sync>;

/// A value as JSON text. A zero character in a text is escaped by it, which PostgreSQL could not keep otherwise.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.into()))
}

/// Where there is one.
pub(super) fn optional_json<T: Serialize + ?Sized>(value: Option<&T>) -> Result<Option<String>, StoreError> {
    value.map(json).transpose()
}

/// A column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Unreadable> {
    Ok(row.try_get(name)?)
}

/// A column that holds JSON text.
pub(super) fn get_json<T: DeserializeOwned>(row: &Row, name: &str) -> Result<T, Unreadable> {
    from_json(get(row, name)?)
}

/// A column that may hold JSON text.
pub(super) fn get_optional_json<T: DeserializeOwned>(row: &Row, name: &str) -> Result<Option<T>, Unreadable> {
    get::<Option<&str>>(row, name)?.map(from_json).transpose()
}

/// A column that holds a word.
pub(super) fn get_word<T: FromStr<Err: Error + Send + Sync + 'static>>(row: &Row, name: &str) -> Result<T, Unreadable> {
    Ok(get::<&str>(row, name)?.parse()?)
}

/// A column that holds a number that is never negative.
pub(super) fn get_number<T: TryFrom<i64, Error: Error + Send + Sync + 'static>>(row: &Row, name: &str) -> Result<T, Unreadable> {
    Ok(T::try_from(get(row, name)?)?)
}

pub(super) fn get_time(row: &Row, name: &str) -> Result<Timestamp, Unreadable> {
    Ok(timestamp(get(row, name)?))
}

pub(super) fn get_optional_time(row: &Row, name: &str) -> Result<Option<Timestamp>, Unreadable> {
    Ok(get::<Option<SystemTime>>(row, name)?.map(timestamp))
}

/// The error for a row that cannot be read.
pub(super) fn corrupt(what: impl Display) -> impl FnOnce(Unreadable) -> StoreError {
    move |source| StoreError::Corrupt { what: what.to_string(), source }
}

/// A duration as PostgreSQL's `make_interval(secs => …)` takes it.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.min(LONGEST).as_secs_f64()
}

/// A limit as PostgreSQL's `LIMIT` takes it.
pub(super) fn limit(limit: u32) -> i64 {
    i64::from(limit)
}

/// A time given by a caller, as far from the present as PostgreSQL can keep at most.
pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let latest = i64::try_from(LONGEST.as_millis()).unwrap_or(i64::MAX);
    let since_epoch = Duration::from_millis(u64::try_from(time.0.clamp(0, latest)).unwrap_or(0));
    UNIX_EPOCH + since_epoch
}

/// In whole milliseconds, rounded down: so a later time is never told as an earlier one.
fn timestamp(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    let mut json = serde_json::Deserializer::from_str(text);
    // What a script returned may be nested deeper than the usual 128; its depth was limited when it was received.
    json.disable_recursion_limit();
    let value = T::deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

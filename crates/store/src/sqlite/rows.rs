//! How operations reach rows, and how values are kept in columns.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use dunnage_types::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// What an operation works with: the connection, the service whose rows it may touch, and the time.
pub(super) struct Rows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) service: &'a str,
    pub(super) now: Timestamp,
}

impl Rows<'_> {
    /// Executes a statement; how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    /// Every row.
    pub(super) fn all<T, E: Into<StoreError>>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row).map_err(Into::into)?);
        }
        Ok(found)
    }
}

/// A value kept as JSON text.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(text.into())
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let mut json = serde_json::Deserializer::from_str(value.as_str()?);
        // What a script returned may be nested deeper than the usual 128; its depth was limited when it was received.
        json.disable_recursion_limit();
        T::deserialize(&mut json).map(Self).map_err(FromSqlError::other)
    }
}

/// A value kept as its word or id.
pub(super) struct Word<T>(pub(super) T);

impl<T: Display> ToSql for Word<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl<T: FromStr<Err: Error + Send + Sync + 'static>> FromSql for Word<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(FromSqlError::other)
    }
}

/// The time `by` before `now`, or the first there is.
pub(super) fn earlier(now: Timestamp, by: Duration) -> i64 {
    now.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

/// The time `by` after `now`, or the last there is.
pub(super) fn later(now: Timestamp, by: Duration) -> i64 {
    now.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

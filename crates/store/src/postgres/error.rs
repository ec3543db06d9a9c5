//! PostgreSQL's errors as the store's.

use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, error::DbError};

use crate::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Unavailable(Box::new(Answer(error)))
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Self::Unavailable("no connection to the database became free in time".into()),
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

/// What the database, or the way to it, answered instead of rows. Says the whole of it: tokio-postgres alone would say "db error".
#[derive(Debug)]
pub(super) struct Answer(pub(super) Error);

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_db_error() {
            Some(error) => write!(formatter, "PostgreSQL says: {} ({})", error.message(), error.code().code()),
            None => self.0.fmt(formatter),
        }
    }
}

impl std::error::Error for Answer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if self.0.as_db_error().is_some() { None } else { self.0.source() }
    }
}

/// A call that was given up.
#[derive(Debug, thiserror::Error)]
#[error("the database did not answer within {} s", .0.as_secs())]
pub(super) struct TooLate(pub(super) Duration);

/// Whether the database understood what was asked and refused it: nothing is wrong with the connection or the server, and the same
/// will be refused again.
pub(super) fn is_refusal(error: &StoreError) -> bool {
    answer(error).and_then(Error::as_db_error).is_some_and(|error| !is_trouble(error))
}

/// Whether the connection turned out to be dead, so that another may do.
pub(super) fn is_dead_connection(error: &StoreError) -> bool {
    answer(error).is_some_and(|error| match error.as_db_error() {
        Some(error) => has_ended(error),
        None => true,
    })
}

/// Whether the same statement may succeed at once if it is simply repeated: it was the victim of others.
pub(super) fn is_conflict(error: &StoreError) -> bool {
    let victim = |error: &DbError| [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(error.code());
    answer(error).and_then(Error::as_db_error).is_some_and(victim)
}

fn answer(error: &StoreError) -> Option<&Error> {
    let StoreError::Unavailable(source) = error else { return None };
    source.downcast_ref::<Answer>().map(|answer| &answer.0)
}

/// Errors of the server, not of the statement. Whoever meets one is done with the connection.
fn is_trouble(error: &DbError) -> bool {
    let code = error.code();
    has_ended(error)
        || ["53", "57", "58", "XX"].contains(&&code.code()[..2])
        || [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            // PgBouncer has lost a statement.
            SqlState::INVALID_SQL_STATEMENT_NAME,
        ]
        .contains(code)
}

/// Whether the server has ended the session, or is not one that we can use.
fn has_ended(error: &DbError) -> bool {
    let code = error.code();
    code.code().starts_with("08")
        || [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW, SqlState::READ_ONLY_SQL_TRANSACTION]
            .contains(code)
}

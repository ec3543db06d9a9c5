//! SQLite's errors as the store's.

use std::sync::Arc;

use rusqlite::{Error, ErrorCode};

use crate::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Arc::new(error).into()
    }
}

/// Shared, because one failed commit answers every operation in it.
impl From<Arc<Error>> for StoreError {
    fn from(error: Arc<Error>) -> Self {
        let what = match &*error {
            Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..) => "a value",
            _ if is_damage(&error) => "pages",
            _ => return Self::Unavailable(Box::new(error)),
        };
        Self::Corrupt { what: what.to_owned(), source: Box::new(error) }
    }
}

/// Whether the file itself is broken, or is no database at all.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

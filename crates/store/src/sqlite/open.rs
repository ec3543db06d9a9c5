//! Opening: the lock, the check, the settings and the schema.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::is_damage;
use crate::StoreError;

const DATABASE_FILE: &str = "dunnage.db";
const LOCK_FILE: &str = "lock";
/// One script for each schema version, from 1. A script that has been released never changes.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_fleet.sql"),
    include_str!("migrations/0003_output_uri.sql"),
];
/// More than there are different statements.
const CACHED_STATEMENTS: usize = 64;
/// What a long write-ahead log is cut back to, in bytes.
const LOG_BYTES: u32 = 64 << 20;

/// Holds a data folder until it is dropped: no other server uses it meanwhile. A file of its own: SQLite's own locks on the
/// database would be lost if any descriptor of that were closed.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the folder, making it if need be, for its owner alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another server holds it, [`StoreError::Unavailable`] when it cannot be made.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let unavailable = |error: std::io::Error| StoreError::Unavailable(error.into());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK_FILE)).map_err(unavailable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path: folder.display().to_string() }),
            Err(error) => Err(unavailable(error.into())),
        }
    }
}

/// The connection that writes. Whatever is wrong with the file is found before anything in it is changed.
pub(super) fn writing_connection(folder: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let path = folder.join(DATABASE_FILE);
    let mut connection = connect(&path, busy_timeout)?;
    // Closing would otherwise move the write-ahead log into a file that may be damaged.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    check(&connection, path)?;
    refuse_newer_schema(&connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    use_write_ahead_log(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// A connection that only reads, to a database that [`writing_connection`] has made ready.
pub(super) fn reading_connection(folder: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let connection = connect(&folder.join(DATABASE_FILE), busy_timeout)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    Ok(connection)
}

fn check(connection: &Connection, path: PathBuf) -> Result<(), StoreError> {
    let found = match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(verdict) if verdict == "ok" => return Ok(()),
        Ok(verdict) => verdict,
        Err(error) if is_damage(&error) => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    let what = format!("pages in `{}`", path.display());
    Err(StoreError::Corrupt { what, source: Box::new(Damaged { path, found }) })
}

/// What to do about a damaged file.
#[derive(Debug, thiserror::Error)]
#[error(
    "the file is damaged ({found}) and was left as it is; restore a backup, or try `sqlite3 {path} .recover | sqlite3 repaired.db`, \
     or move `{path}` with its `-wal` and `-shm` files away to begin anew",
    path = path.display()
)]
struct Damaged {
    path: PathBuf,
    found: String,
}

fn refuse_newer_schema(connection: &Connection) -> Result<(), StoreError> {
    let (found, known) = (schema_version(connection)?, MIGRATIONS.len() as u32);
    if found > known { Err(StoreError::SchemaTooNew { found, known }) } else { Ok(()) }
}

fn schema_version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn use_write_ahead_log(connection: &Connection) -> Result<(), StoreError> {
    let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    if mode == "wal" {
        return Ok(());
    }
    let text = format!("its file system allows no write-ahead log (SQLite stays with `{mode}`); use a local disk");
    Err(StoreError::Unavailable(text.into()))
}

/// Brings the schema up to date, all of it or nothing.
fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let current = schema_version(&transaction)?;
    for script in MIGRATIONS.iter().skip(current as usize) {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as u32)?;
    transaction.commit()?;
    Ok(())
}

//! Opening: the first connection, the check, and the schema.

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::error::Answer;
use super::tls;
use crate::StoreError;

/// One script for each schema version, from 1. A script that has been released never changes.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_output_uri.sql"),
    include_str!("migrations/0003_functions.sql"),
];
/// The oldest server that is known to do, times ten thousand as it tells it itself.
const OLDEST_SERVER: i32 = 120_000;
/// How long one try to connect may take, log-in and all.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the schema's changes may take, and the wait for another server that makes them.
const MIGRATION_LIMIT: Duration = Duration::from_mins(30);
/// How long to wait between tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// Names the lock that servers take while they change the schema: "dunnage" in ASCII.
const MIGRATION_LOCK: i64 = 0x64_75_6e_6e_61_67_65;

const SERVER: &str =
    "SELECT current_setting('server_encoding') AS encoding, current_setting('server_version_num')::int4 AS version,
    current_setting('server_version') AS version_name";

/// An address that is known to lead to a database we can use.
pub(super) struct Opened {
    pub(super) address: Address,
    pub(super) tls: MakeRustlsConnect,
    /// The schema's version before, and now.
    pub(super) migrated: (u32, u32),
}

/// Connects, checks the server and brings the schema up to date. A database that is not there yet is waited for for `patience`.
pub(super) async fn open(url: &str, patience: Duration) -> Result<Opened, StoreError> {
    let address = Address::parse(url).map_err(unavailable)?;
    let tls = tls::connector(&address.verification).map_err(unavailable)?;
    let mut client = connect_with_patience(&address, &tls, patience).await?;
    let migrated = match timeout(MIGRATION_LIMIT, prepare(&mut client)).await {
        Ok(migrated) => migrated?,
        Err(_) => return Err(unavailable(format!("the schema of {address} was not ready within {} s", MIGRATION_LIMIT.as_secs()))),
    };
    Ok(Opened { address, tls, migrated })
}

async fn connect_with_patience(address: &Address, tls: &MakeRustlsConnect, patience: Duration) -> Result<Client, StoreError> {
    let give_up = Instant::now() + patience;
    loop {
        match connect(address, tls).await {
            Ok(client) => return Ok(client),
            Err(error) if error.may_pass() && Instant::now() + PAUSE < give_up => {
                tracing::warn!(error = %error, cause = error.source().map(ToString::to_string), "waiting for the database");
                sleep(PAUSE).await;
            }
            Err(error) => return Err(unavailable(error)),
        }
    }
}

/// Makes a connection that a task of its own serves until the client is dropped.
async fn connect(address: &Address, tls: &MakeRustlsConnect) -> Result<Client, CannotConnect> {
    let cannot = |source: Option<tokio_postgres::Error>| CannotConnect { address: address.to_string(), source: source.map(Answer) };
    let connecting = address.config.connect(tls.clone());
    let (client, connection) =
        timeout(CONNECT_LIMIT, connecting).await.map_err(|_| cannot(None))?.map_err(|error| cannot(Some(error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the first connection to the database ended");
        }
    });
    Ok(client)
}

/// Why there is no connection: where it was tried, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {address}; {advice}", advice = self.advice())]
struct CannotConnect {
    address: String,
    #[source]
    source: Option<Answer>,
}

impl CannotConnect {
    fn code(&self) -> Option<&SqlState> {
        self.source.as_ref()?.0.code()
    }

    fn is_about_encryption(&self) -> bool {
        let mut cause = self.source.as_ref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            if error.is::<rustls::Error>() || error.to_string().contains("TLS") {
                return true;
            }
            // An error of input and output hides the one it was made from.
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            cause = inner.map(|inner| inner as &dyn Error).or_else(|| error.source());
        }
        false
    }

    /// Whether waiting may help.
    fn may_pass(&self) -> bool {
        match self.code() {
            Some(code) => ["08", "53", "57"].contains(&&code.code()[..2]) || *code == SqlState::READ_ONLY_SQL_TRANSACTION,
            None => !self.is_about_encryption(),
        }
    }

    fn advice(&self) -> &'static str {
        match self.code() {
            Some(code) if code.code().starts_with("28") => "check the user and the password",
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "create the database first, or name another",
            Some(_) => "see what the server says",
            None if self.is_about_encryption() => "check `sslmode` and `sslrootcert`, and the server's certificate",
            None => "check that the server runs, and its address (`--database-url`)",
        }
    }
}

async fn prepare(client: &mut Client) -> Result<(u32, u32), StoreError> {
    check(client).await?;
    // A server whose role may not change the schema can be run all the same, once somebody else has done so.
    let known = MIGRATIONS.len() as u32;
    match schema_version(client).await? {
        found if found > known => Err(StoreError::SchemaTooNew { found, known }),
        found if found == known => Ok((known, known)),
        _ => migrate(client).await,
    }
}

async fn check(client: &Client) -> Result<(), StoreError> {
    let server = client.query_typed_one(SERVER, &[]).await?;
    let (encoding, version): (String, i32) = (server.try_get("encoding")?, server.try_get("version")?);
    if version < OLDEST_SERVER {
        let name: String = server.try_get("version_name")?;
        return Err(unavailable(format!("PostgreSQL {name} is too old; use {} or later", OLDEST_SERVER / 10_000)));
    }
    if encoding != "UTF8" {
        return Err(unavailable(format!(
            "the database's encoding is {encoding}; create one with `ENCODING 'UTF8' TEMPLATE template0`"
        )));
    }
    Ok(())
}

/// Brings the schema up to date, all of it or nothing. Servers that start at the same time wait for each other.
async fn migrate(client: &mut Client) -> Result<(u32, u32), StoreError> {
    let transaction = client.transaction().await?;
    transaction.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&MIGRATION_LOCK, Type::INT8)]).await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS dunnage_schema (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let (before, known) = (schema_version(transaction.client()).await?, MIGRATIONS.len() as u32);
    if before > known {
        return Err(StoreError::SchemaTooNew { found: before, known });
    }
    for (version, script) in (1_i32..).zip(MIGRATIONS).skip(before as usize) {
        transaction.batch_execute(script).await?;
        transaction.query_typed("INSERT INTO dunnage_schema (version) VALUES ($1)", &[(&version, Type::INT4)]).await?;
    }
    transaction.commit().await?;
    Ok((before, known))
}

/// 0 when there is none yet.
async fn schema_version(client: &Client) -> Result<u32, StoreError> {
    let is_there = client.query_typed_one("SELECT to_regclass('dunnage_schema') IS NOT NULL AS is_there", &[]).await?;
    if !is_there.try_get("is_there")? {
        return Ok(0);
    }
    let found = client.query_typed_one("SELECT coalesce(max(version), 0) AS version FROM dunnage_schema", &[]).await?;
    Ok(found.try_get::<_, i32>("version")?.unsigned_abs())
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(error.into())
}

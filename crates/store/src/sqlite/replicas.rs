//! Who is there; with SQLite, this server alone.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{Presence, Replica, ReplicaId, Timestamp, Version};
use rusqlite::{Row, named_params};

use super::SqliteStore;
use super::rows::{Rows, Word, earlier};
use crate::{Replicas, StoreError};

const ANNOUNCE: &str = "
    INSERT INTO replica (service, id, serving, ready, error, started_at, seen_at)
    VALUES (:service, :id, :serving, :ready, :error, :now, :now)
    ON CONFLICT (service, id) DO UPDATE
    SET serving = excluded.serving, ready = excluded.ready, error = excluded.error, seen_at = excluded.seen_at";

const FORGET: &str = "DELETE FROM replica WHERE service = :service AND seen_at < :before";

const DEPART: &str = "DELETE FROM replica WHERE service = :service AND id = :id";

const ALL: &str = "SELECT * FROM replica WHERE service = :service AND seen_at >= :since ORDER BY started_at, id";

#[async_trait]
impl Replicas for SqliteStore {
    async fn announce(&self, replica: ReplicaId, presence: &Presence, forget: Duration) -> Result<(), StoreError> {
        let presence = presence.clone();
        self.write(move |rows| announce(rows, replica, &presence, forget)).await
    }

    async fn depart(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.write(move |rows| rows.execute(DEPART, named_params! { ":service": rows.service, ":id": Word(replica) }).map(drop))
            .await
    }

    async fn replicas(&self, within: Duration) -> Result<Vec<Replica>, StoreError> {
        self.read(move |rows| {
            let parameters = named_params! { ":service": rows.service, ":since": earlier(rows.now, within) };
            rows.all(ALL, parameters, read)
        })
        .await
    }
}

fn announce(rows: &Rows<'_>, replica: ReplicaId, presence: &Presence, forget: Duration) -> Result<(), StoreError> {
    let parameters = named_params! {
        ":service": rows.service,
        ":id": Word(replica),
        ":serving": presence.serving.map(Version::get),
        ":ready": presence.ready,
        ":error": presence.error,
        ":now": rows.now.0,
    };
    rows.execute(ANNOUNCE, parameters)?;
    rows.execute(FORGET, named_params! { ":service": rows.service, ":before": earlier(rows.now, forget) }).map(drop)
}

fn read(row: &Row<'_>) -> Result<Replica, StoreError> {
    let serving = row.get::<_, Option<u32>>("serving")?.and_then(Version::new);
    Ok(Replica {
        id: row.get::<_, Word<_>>("id")?.0,
        presence: Presence { serving, ready: row.get("ready")?, error: row.get("error")? },
        started_at: Timestamp(row.get("started_at")?),
        seen_at: Timestamp(row.get("seen_at")?),
    })
}

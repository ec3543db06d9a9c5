//! Who is there.

use std::time::Duration;

use async_trait::async_trait;
use dunnage_types::{Presence, Replica, ReplicaId, Version};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::rows::{Unreadable, corrupt, get, get_optional_json, get_time, optional_json, seconds};
use super::{PostgresStore, jobs};
use crate::{Replicas, StoreError};

/// After an outage everybody announces themselves at once, and finds the others silent: rows that somebody has in hand are left
/// alone, lest two wait for each other's.
const ANNOUNCE: &str = "
    WITH silent AS MATERIALIZED (
        SELECT id FROM replica
        WHERE service = $1 AND id <> $2 AND seen_at < now() - make_interval(secs => $6)
        FOR UPDATE SKIP LOCKED),
    forgotten AS (DELETE FROM replica USING silent WHERE replica.service = $1 AND replica.id = silent.id)
    INSERT INTO replica (service, id, serving, ready, error, started_at, seen_at)
    VALUES ($1, $2, $3, $4, $5, now(), now())
    ON CONFLICT (service, id) DO UPDATE
    SET serving = excluded.serving, ready = excluded.ready, error = excluded.error, seen_at = excluded.seen_at";

const DEPART: &str = "DELETE FROM replica WHERE service = $1 AND id = $2";

const ALL: &str = "
    SELECT * FROM replica WHERE service = $1 AND seen_at >= now() - make_interval(secs => $2) ORDER BY started_at, id";

#[async_trait]
impl Replicas for PostgresStore {
    async fn announce(&self, replica: ReplicaId, presence: &Presence, forget: Duration) -> Result<(), StoreError> {
        let id = replica.as_uuid();
        let serving = presence.serving.map(|version| i64::from(version.get()));
        let error = optional_json(presence.error.as_ref())?;
        let forget = seconds(forget);
        let parameters = [
            self.scope.service(),
            (&id as _, Type::UUID),
            (&serving, Type::INT8),
            (&presence.ready, Type::BOOL),
            (&error, Type::TEXT),
            (&forget, Type::FLOAT8),
        ];
        self.scope.repeatable(ANNOUNCE, &parameters).await.map(drop)
    }

    async fn depart(&self, replica: ReplicaId) -> Result<(), StoreError> {
        let id = replica.as_uuid();
        self.scope.repeatable(DEPART, &[self.scope.service(), (&id, Type::UUID)]).await.map(drop)
    }

    async fn replicas(&self, within: Duration) -> Result<Vec<Replica>, StoreError> {
        let within = seconds(within);
        let rows = self.scope.repeatable(ALL, &[self.scope.service(), (&within, Type::FLOAT8)]).await?;
        rows.iter().map(|row| decode(row).map_err(corrupt("a replica"))).collect()
    }
}

fn decode(row: &Row) -> Result<Replica, Unreadable> {
    let serving: Option<Version> = get::<Option<i64>>(row, "serving")?.map(jobs::version).transpose()?;
    Ok(Replica {
        id: get::<uuid::Uuid>(row, "id")?.into(),
        presence: Presence { serving, ready: get(row, "ready")?, error: get_optional_json(row, "error")? },
        started_at: get_time(row, "started_at")?,
        seen_at: get_time(row, "seen_at")?,
    })
}

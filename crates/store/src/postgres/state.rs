//! The map behind `ctx.state`.

use async_trait::async_trait;
use dunnage_types::StateValue;
use serde_json::Number;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::Transaction;
use super::rows::{Unreadable, corrupt, from_json, get, get_json, limit as sql_limit, optional_json};
use super::{PostgresStore, Scope};
use crate::state_value::{BYTES, JSON, Kept, Layout, checked, incremented, is_same};
use crate::{Lease, State, StoreError};

const GET: &str = "SELECT key, kind, value, layout FROM state WHERE service = $1 AND key = $2";

/// The job's row stays locked until the write is committed: nobody can take the job over in between.
const SET: &str = "
    WITH fence AS MATERIALIZED (
        SELECT 1 FROM job WHERE service = $1 AND id = $2 AND state = 'running' AND lease = $3 FOR SHARE)
    INSERT INTO state (service, key, kind, value, layout)
    SELECT $1, $4, $5, $6, $7 WHERE $2::uuid IS NULL OR EXISTS (SELECT FROM fence)
    ON CONFLICT (service, key) DO UPDATE SET kind = excluded.kind, value = excluded.value, layout = excluded.layout
    RETURNING key";

const DELETE: &str = "
    WITH fence AS MATERIALIZED (
        SELECT 1 FROM job WHERE service = $1 AND id = $2 AND state = 'running' AND lease = $3 FOR SHARE),
    deleted AS (
        DELETE FROM state WHERE service = $1 AND key = $4 AND ($2::uuid IS NULL OR EXISTS (SELECT FROM fence)) RETURNING key)
    SELECT $2::uuid IS NULL OR EXISTS (SELECT FROM fence) AS held, EXISTS (SELECT FROM deleted) AS deleted";

const HOLD: &str = "SELECT 1 FROM job WHERE service = $1 AND id = $2 AND state = 'running' AND lease = $3 FOR SHARE";

const LOCK: &str = "SELECT key, kind, value, layout FROM state WHERE service = $1 AND key = $2 FOR UPDATE";

const INSERT: &str = "
    INSERT INTO state (service, key, kind, value, layout) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING key";

const REPLACE: &str = "UPDATE state SET kind = $3, value = $4, layout = $5 WHERE service = $1 AND key = $2 RETURNING key";

const REMOVE: &str = "DELETE FROM state WHERE service = $1 AND key = $2";

/// Walks along the primary key, in which keys stand byte by byte, and stops counting where the values get too large.
pub(super) const SCAN: &str = "
    SELECT key, kind, value, layout FROM (
        SELECT page.*, row_number() OVER entries AS position, sum(octet_length(value)) OVER entries AS bytes
        FROM (
            SELECT key, kind, value, layout FROM state
            WHERE service = $1 AND key >= $2 AND ($3::text IS NULL OR key < $3) AND ($4::text IS NULL OR key > $4)
            ORDER BY key
            LIMIT $5) AS page
        WINDOW entries AS (ORDER BY key ROWS UNBOUNDED PRECEDING)) AS counted
    WHERE position = 1 OR bytes <= $6
    ORDER BY key";

/// How often a change of a key is tried that others keep making and removing.
const TRIES: u32 = 100;

#[async_trait]
impl State for PostgresStore {
    async fn get(&self, key: &str) -> Result<Option<StateValue>, StoreError> {
        let key = checked(key)?;
        let rows = self.scope.repeatable(GET, &[self.scope.service(), (&key, Type::TEXT)]).await?;
        rows.first().map(value).transpose()
    }

    async fn set(&self, fence: Option<Lease>, key: &str, value: StateValue) -> Result<(), StoreError> {
        let key = checked(key)?;
        let kept = Kept::new(&key, value, self.limits.value_bytes)?;
        set(&self.scope, fence, &key, &kept).await
    }

    async fn delete(&self, fence: Option<Lease>, key: &str) -> Result<bool, StoreError> {
        let key = checked(key)?;
        delete(&self.scope, fence, &key).await
    }

    async fn increment(&self, fence: Option<Lease>, key: &str, by: &Number) -> Result<Number, StoreError> {
        let (key, limit) = (checked(key)?, self.limits.value_bytes);
        self.change(fence, &key, |held| {
            let sum = incremented(&key, held, by)?;
            let kept = Kept::new(&key, StateValue::Json(sum.clone().into()), limit)?;
            Ok((Change::Set(kept), sum))
        })
        .await
    }

    async fn compare_and_set(
        &self,
        fence: Option<Lease>,
        key: &str,
        old: Option<StateValue>,
        new: Option<StateValue>,
    ) -> Result<bool, StoreError> {
        let key = checked(key)?;
        // Refused before anything is asked, as by every other call.
        let keep = |new: Option<&StateValue>| new.map(|new| Kept::new(&key, new.clone(), self.limits.value_bytes)).transpose();
        keep(new.as_ref())?;
        self.change(fence, &key, |held| {
            let same = is_same(held.as_ref(), old.as_ref());
            let change = match keep(new.as_ref())? {
                _ if !same => Change::Nothing,
                Some(new) => Change::Set(new),
                None => Change::Remove,
            };
            Ok((change, same))
        })
        .await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, StateValue)>, StoreError> {
        // No key holds a zero character, and PostgreSQL would take none: what is behind `a\0…` is what is behind `a`.
        if prefix.contains('\0') {
            return Ok(Vec::new());
        }
        let after = after.and_then(|after| after.split('\0').next());
        let (behind, limit) = (successor(prefix), sql_limit(limit));
        let most_bytes = i64::try_from(self.limits.scan_bytes).unwrap_or(i64::MAX);
        let parameters = [
            self.scope.service(),
            (&prefix as _, Type::TEXT),
            (&behind, Type::TEXT),
            (&after, Type::TEXT),
            (&limit, Type::INT8),
            (&most_bytes, Type::INT8),
        ];
        self.scope.repeatable(SCAN, &parameters).await?.iter().map(entry).collect()
    }
}

/// What becomes of a key.
enum Change {
    Nothing,
    Set(Kept),
    Remove,
}

impl PostgresStore {
    /// Changes a key according to what it holds, which nobody else can change meanwhile.
    async fn change<T: Send>(
        &self,
        fence: Option<Lease>,
        key: &str,
        decide: impl Fn(Option<StateValue>) -> Result<(Change, T), StoreError> + Send + Sync,
    ) -> Result<T, StoreError> {
        let mut transaction = self.scope.begin().await?;
        let outcome = change(&mut transaction, &self.scope, fence, key, &decide).await;
        transaction.end(outcome).await
    }
}

async fn change<T: Send>(
    transaction: &mut Transaction,
    scope: &Scope,
    fence: Option<Lease>,
    key: &str,
    decide: &(impl Fn(Option<StateValue>) -> Result<(Change, T), StoreError> + Send + Sync),
) -> Result<T, StoreError> {
    if let Some(lease) = fence {
        hold(transaction, scope, lease).await?;
    }
    for _ in 0..TRIES {
        let held = transaction.query(LOCK, &[scope.service(), (&key, Type::TEXT)]).await?;
        let held = held.first().map(value).transpose()?;
        let is_there = held.is_some();
        let (change, answer) = decide(held)?;
        if make(transaction, scope, key, change, is_there).await? {
            return Ok(answer);
        }
    }
    Err(StoreError::Unavailable(format!("`{key}` was made and removed by others again and again").into()))
}

/// Whether the change counts: a key that was not there cannot be locked, so somebody else may have made it meanwhile.
async fn make(transaction: &mut Transaction, scope: &Scope, key: &str, change: Change, is_there: bool) -> Result<bool, StoreError> {
    match change {
        Change::Nothing => Ok(true),
        Change::Remove => transaction.query(REMOVE, &[scope.service(), (&key, Type::TEXT)]).await.map(|_| true),
        Change::Set(Kept { kind, bytes, layout }) => {
            let layout = optional_json(layout.as_ref())?;
            let parameters =
                [scope.service(), (&key as _, Type::TEXT), (&kind, Type::TEXT), (&bytes, Type::BYTEA), (&layout, Type::TEXT)];
            let changed = transaction.query(if is_there { REPLACE } else { INSERT }, &parameters).await?;
            Ok(!changed.is_empty())
        }
    }
}

async fn hold(transaction: &mut Transaction, scope: &Scope, lease: Lease) -> Result<(), StoreError> {
    let id = lease.job.as_uuid();
    let held = transaction.query(HOLD, &[scope.service(), (&id as _, Type::UUID), (&lease.number, Type::INT8)]).await?;
    if held.is_empty() { Err(StoreError::Superseded(lease.job)) } else { Ok(()) }
}

async fn set(scope: &Scope, fence: Option<Lease>, key: &str, kept: &Kept) -> Result<(), StoreError> {
    let (id, number) = fenced(fence);
    let layout = optional_json(kept.layout.as_ref())?;
    let parameters = [
        scope.service(),
        (&id as _, Type::UUID),
        (&number, Type::INT8),
        (&key, Type::TEXT),
        (&kept.kind, Type::TEXT),
        (&kept.bytes, Type::BYTEA),
        (&layout, Type::TEXT),
    ];
    let written = scope.repeatable(SET, &parameters).await?;
    match fence {
        Some(lease) if written.is_empty() => Err(StoreError::Superseded(lease.job)),
        _ => Ok(()),
    }
}

async fn delete(scope: &Scope, fence: Option<Lease>, key: &str) -> Result<bool, StoreError> {
    let (id, number) = fenced(fence);
    let parameters = [scope.service(), (&id as _, Type::UUID), (&number, Type::INT8), (&key, Type::TEXT)];
    let rows = scope.once(DELETE, &parameters).await?;
    let flag = |name| rows.first().map_or(Ok(false), |row| get::<bool>(row, name)).map_err(corrupt("the removal of a state value"));
    match fence {
        Some(lease) if !flag("held")? => Err(StoreError::Superseded(lease.job)),
        _ => flag("deleted"),
    }
}

fn fenced(fence: Option<Lease>) -> (Option<Uuid>, Option<i64>) {
    (fence.map(|lease| lease.job.as_uuid()), fence.map(|lease| lease.number))
}

/// The first text behind all that begin with `prefix`; `None` when there is none.
fn successor(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // The surrogates between the two are no characters.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

fn value(row: &Row) -> Result<StateValue, StoreError> {
    entry(row).map(|(_, value)| value)
}

fn entry(row: &Row) -> Result<(String, StateValue), StoreError> {
    let key: String = get(row, "key").map_err(corrupt("a state key"))?;
    let value = decode(row).map_err(corrupt(format_args!("a state value for `{key}`").to_string()))?;
    Ok((key, value))
}

fn decode(row: &Row) -> Result<StateValue, Unreadable> {
    let bytes = get::<Vec<u8>>(row, "value")?;
    Ok(match get::<&str>(row, "kind")? {
        JSON => StateValue::Json(from_json(std::str::from_utf8(&bytes)?)?),
        BYTES => StateValue::Bytes(bytes),
        _ => get_json::<Layout>(row, "layout")?.array(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_of_a_prefix_is_behind_all_that_begin_with_it() {
        for (prefix, expected) in [("a", Some("b")), ("user/", Some("user0")), ("", None), ("a\u{10FFFF}", Some("b"))] {
            assert_eq!(successor(prefix).as_deref(), expected, "{prefix:?}");
        }
        assert_eq!(successor("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(successor("\u{10FFFF}\u{10FFFF}"), None);
    }
}

//! The map behind `ctx.state`.

use async_trait::async_trait;
use dunnage_types::StateValue;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, named_params};
use serde_json::Number;

use super::SqliteStore;
use super::jobs::held;
use super::rows::{Json, Rows};
use crate::state_value::{BYTES, JSON, Kept, Layout, checked, incremented, is_same};
use crate::{Lease, State, StoreError};

const GET: &str = "SELECT key, kind, value, layout FROM state WHERE service = :service AND key = :key";

const SET: &str = "
    INSERT INTO state (service, key, kind, value, layout) VALUES (:service, :key, :kind, :value, :layout)
    ON CONFLICT (service, key) DO UPDATE SET kind = excluded.kind, value = excluded.value, layout = excluded.layout";

const DELETE: &str = "DELETE FROM state WHERE service = :service AND key = :key";

/// Texts compare byte by byte, so this walks along the primary key from the first entry that matters.
const FROM: &str = "SELECT key, kind, value, layout FROM state WHERE service = :service AND key >= :from ORDER BY key";

#[async_trait]
impl State for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<StateValue>, StoreError> {
        let key = checked(key)?;
        self.read(move |rows| get(rows, &key)).await
    }

    async fn set(&self, fence: Option<Lease>, key: &str, value: StateValue) -> Result<(), StoreError> {
        let key = checked(key)?;
        let value = Kept::new(&key, value, self.limits.value_bytes)?;
        self.write_fenced(fence, move |rows| set(rows, &key, &value)).await
    }

    async fn delete(&self, fence: Option<Lease>, key: &str) -> Result<bool, StoreError> {
        let key = checked(key)?;
        self.write_fenced(fence, move |rows| delete(rows, &key)).await
    }

    async fn increment(&self, fence: Option<Lease>, key: &str, by: &Number) -> Result<Number, StoreError> {
        let (key, by, limit) = (checked(key)?, by.clone(), self.limits.value_bytes);
        self.write_fenced(fence, move |rows| {
            let sum = incremented(&key, get(rows, &key)?, &by)?;
            set(rows, &key, &Kept::new(&key, StateValue::Json(sum.clone().into()), limit)?)?;
            Ok(sum)
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
        let new = new.map(|new| Kept::new(&key, new, self.limits.value_bytes)).transpose()?;
        self.write_fenced(fence, move |rows| {
            let same = is_same(get(rows, &key)?.as_ref(), old.as_ref());
            match (same, new) {
                (false, _) => {}
                (true, Some(new)) => set(rows, &key, &new)?,
                (true, None) => _ = delete(rows, &key)?,
            }
            Ok(same)
        })
        .await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, StateValue)>, StoreError> {
        let (prefix, after, most_bytes) = (prefix.to_owned(), after.map(str::to_owned), self.limits.scan_bytes);
        self.read(move |rows| scan(rows, &prefix, after.as_deref(), limit as usize, most_bytes)).await
    }
}

impl SqliteStore {
    /// Writes if the attempt, where there is one, still holds its job; in one transaction with the check.
    async fn write_fenced<T: Send + 'static>(
        &self,
        fence: Option<Lease>,
        work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write(move |rows| {
            fence.map(|lease| held(rows, lease)).transpose()?;
            work(rows)
        })
        .await
    }
}

fn get(rows: &Rows<'_>, key: &str) -> Result<Option<StateValue>, StoreError> {
    Ok(rows.all(GET, named_params! { ":service": rows.service, ":key": key }, entry)?.pop().map(|(_, value)| value))
}

fn set(rows: &Rows<'_>, key: &str, kept: &Kept) -> Result<(), StoreError> {
    let parameters = named_params! {
        ":service": rows.service,
        ":key": key,
        ":kind": kept.kind,
        ":value": column(kept),
        ":layout": kept.layout.as_ref().map(Json),
    };
    rows.execute(SET, parameters).map(drop)
}

/// JSON is kept as text, so that people can read it.
fn column(kept: &Kept) -> ToSqlOutput<'_> {
    let bytes = &kept.bytes;
    ToSqlOutput::Borrowed(if kept.kind == JSON { ValueRef::Text(bytes) } else { ValueRef::Blob(bytes) })
}

fn delete(rows: &Rows<'_>, key: &str) -> Result<bool, StoreError> {
    Ok(rows.execute(DELETE, named_params! { ":service": rows.service, ":key": key })? > 0)
}

fn scan(
    rows: &Rows<'_>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    most_bytes: usize,
) -> Result<Vec<(String, StateValue)>, StoreError> {
    let from = after.map_or(prefix, |after| after.max(prefix));
    let mut statement = rows.connection.prepare_cached(FROM)?;
    let mut found = statement.query(named_params! { ":service": rows.service, ":from": from })?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while entries.len() < limit
        && let Some(row) = found.next()?
    {
        let key = row.get::<_, String>("key")?;
        if Some(key.as_str()) == after {
            continue;
        }
        bytes += row.get_ref("value")?.as_bytes().map_or(0, <[u8]>::len);
        if !key.starts_with(prefix) || (bytes > most_bytes && !entries.is_empty()) {
            break;
        }
        entries.push(entry(row)?);
    }
    Ok(entries)
}

fn entry(row: &Row<'_>) -> Result<(String, StateValue), StoreError> {
    let key = row.get::<_, String>("key")?;
    match decode(row) {
        Ok(value) => Ok((key, value)),
        Err(error) => Err(StoreError::Corrupt { what: format!("a state value for `{key}`"), source: error.into() }),
    }
}

fn decode(row: &Row<'_>) -> rusqlite::Result<StateValue> {
    Ok(match row.get_ref("kind")?.as_str()? {
        JSON => StateValue::Json(row.get::<_, Json<_>>("value")?.0),
        BYTES => StateValue::Bytes(row.get("value")?),
        _ => row.get::<_, Json<Layout>>("layout")?.0.array(row.get("value")?),
    })
}

//! The map behind `ctx.state`.

use async_trait::async_trait;
use dunnage_types::{Array, StateValue};
use serde_json::{Number, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::{Parameter, Transaction};
use super::rows::{Unreadable, corrupt, from_json, get, get_optional_json, json};
use super::{PostgresStore, Scope};
use crate::state::{Layout, checked, sum};
use crate::{Lease, State, StoreError};

/// The fence, for a statement whose second and third parameters are the lease, or null where there is none: one row if the write
/// may go on. The job's row stays locked until the commit, since a rescue and another claim could otherwise come in between.
macro_rules! fenced {
    ($($statement:literal)*) => {
        concat!(
            "WITH held AS MATERIALIZED (
                SELECT 1 FROM job WHERE service = $1 AND id = $2::uuid AND state = 'running' AND lease = $3::int8 FOR SHARE),
            fence AS MATERIALIZED (SELECT 1 FROM held UNION ALL SELECT 1 WHERE $2::uuid IS NULL) ",
            $($statement)*
        )
    };
}

const GET: &str = "SELECT key, kind, value, layout FROM state WHERE service = $1 AND key = $2";

const HELD: &str = fenced!("SELECT 1 FROM fence");

const SET: &str = fenced!(
    "INSERT INTO state (service, key, kind, value, layout) SELECT $1, $4, $5, $6, $7 FROM fence
    ON CONFLICT (service, key) DO UPDATE SET kind = excluded.kind, value = excluded.value, layout = excluded.layout
    RETURNING key"
);

const DELETE: &str = fenced!(
    ", deleted AS (DELETE FROM state USING fence WHERE service = $1 AND key = $4 RETURNING key)
    SELECT EXISTS (SELECT 1 FROM deleted) AS was_there FROM fence"
);

const LOCK: &str = "SELECT key, kind, value, layout FROM state WHERE service = $1 AND key = $2 FOR UPDATE";

const INSERT: &str = "
    INSERT INTO state (service, key, kind, value, layout) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (service, key) DO NOTHING
    RETURNING key";

const UPDATE: &str = "UPDATE state SET kind = $3, value = $4, layout = $5 WHERE service = $1 AND key = $2";

const REMOVE: &str = "DELETE FROM state WHERE service = $1 AND key = $2";

/// Keys compare byte by byte, so this walks along the primary key from the first entry that matters, and leaves off behind the one
/// with which the values take up more than they may.
pub(super) const SCAN: &str = "
    SELECT key, kind, value, layout FROM (
        SELECT key, kind, value, layout, sum(octet_length(value)) OVER (ORDER BY key) AS bytes, row_number() OVER (ORDER BY key) AS place
        FROM (
            SELECT * FROM state
            WHERE service = $1 AND key >= $2 AND ($3::text IS NULL OR key < $3) AND ($4::text IS NULL OR key > $4)
            ORDER BY key
            LIMIT $5) AS page) AS measured
    WHERE bytes <= $6 OR place = 1
    ORDER BY key";

/// What a reader of the present value wants done with it.
enum Change {
    Leave,
    Put(Kept),
    Remove,
}

#[async_trait]
impl State for PostgresStore {
    async fn get(&self, key: &str) -> Result<Option<StateValue>, StoreError> {
        let key = checked(key)?;
        let found = self.scope.repeatable(GET, &[self.scope.service(), (&key as _, Type::TEXT)]).await?;
        found.first().map(value).transpose()
    }

    async fn set(&self, fence: Option<Lease>, key: &str, value: StateValue) -> Result<(), StoreError> {
        let key = checked(key)?;
        let kept = Kept::new(&key, value, self.limits.value_bytes)?;
        let fence = Fence::new(fence);
        let [job, lease] = fence.parameters();
        let [kind, value, layout] = kept.parameters();
        let parameters = [self.scope.service(), job, lease, (&key as _, Type::TEXT), kind, value, layout];
        self.scope.repeatable(SET, &parameters).await?.pop().map(drop).ok_or_else(|| fence.refusal())
    }

    async fn delete(&self, fence: Option<Lease>, key: &str) -> Result<bool, StoreError> {
        let (key, fence) = (checked(key)?, Fence::new(fence));
        let [job, lease] = fence.parameters();
        let parameters = [self.scope.service(), job, lease, (&key as _, Type::TEXT)];
        let deleted = self.scope.once(DELETE, &parameters).await?.pop().ok_or_else(|| fence.refusal())?;
        get(&deleted, "was_there").map_err(corrupt("an answer"))
    }

    async fn increment(&self, fence: Option<Lease>, key: &str, by: &Number) -> Result<Number, StoreError> {
        self.change(fence, key, |key, present| {
            let sum = match present {
                None => Some(by.clone()),
                Some(StateValue::Json(Value::Number(number))) => sum(&number, by),
                Some(_) => None,
            };
            let sum = sum.ok_or_else(|| StoreError::NotANumber { key: key.to_owned() })?;
            Ok((Change::Put(Kept::new(key, StateValue::Json(sum.clone().into()), self.limits.value_bytes)?), sum))
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
        let new = new.map(|new| Kept::new(&checked(key)?, new, self.limits.value_bytes)).transpose()?;
        self.change(fence, key, |_, present| {
            let same = match (present, &old) {
                (Some(present), Some(old)) => present.same_as(old),
                (present, old) => present.is_none() && old.is_none(),
            };
            Ok(match (same, &new) {
                (false, _) => (Change::Leave, false),
                (true, Some(new)) => (Change::Put(new.clone()), true),
                (true, None) => (Change::Remove, true),
            })
        })
        .await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, StateValue)>, StoreError> {
        // No key holds a zero character, and PostgreSQL would take none: what comes behind `a\0…` is what comes behind `a`.
        if prefix.contains('\0') {
            return Ok(Vec::new());
        }
        let (prefix, after) = (prefix.to_owned(), after.map(|after| after.split('\0').next().unwrap_or_default().to_owned()));
        let (limit, most_bytes) = (i64::from(limit), i64::try_from(self.limits.scan_bytes).unwrap_or(i64::MAX));
        let end = end_of(&prefix);
        let parameters = [
            self.scope.service(),
            (&prefix as _, Type::TEXT),
            (&end, Type::TEXT),
            (&after, Type::TEXT),
            (&limit, Type::INT8),
            (&most_bytes, Type::INT8),
        ];
        let found = self.scope.repeatable(SCAN, &parameters).await?;
        found.iter().map(|row| Ok((key(row)?, value(row)?))).collect()
    }
}

impl PostgresStore {
    /// Lets `decide` see the present value and say what becomes of it, while nobody else changes it.
    async fn change<T>(
        &self,
        fence: Option<Lease>,
        key: &str,
        mut decide: impl FnMut(&str, Option<StateValue>) -> Result<(Change, T), StoreError> + Send,
    ) -> Result<T, StoreError> {
        let (key, fence) = (checked(key)?, Fence::new(fence));
        loop {
            let mut transaction = self.scope.begin().await?;
            let changed = change(&self.scope, &mut transaction, &fence, &key, &mut decide).await;
            // Somebody else has made the entry since it was found not to be there: look again.
            if let Some(answer) = transaction.end(changed).await? {
                return Ok(answer);
            }
        }
    }
}

/// `None` if the entry was made by somebody else in the meantime.
async fn change<T>(
    scope: &Scope,
    transaction: &mut Transaction,
    fence: &Fence,
    key: &String,
    decide: &mut (impl FnMut(&str, Option<StateValue>) -> Result<(Change, T), StoreError> + Send),
) -> Result<Option<T>, StoreError> {
    if fence.lease.is_some() {
        let [job, lease] = fence.parameters();
        transaction.query(HELD, &[scope.service(), job, lease]).await?.pop().ok_or_else(|| fence.refusal())?;
    }
    let entry = [scope.service(), (key as _, Type::TEXT)];
    let present = transaction.query(LOCK, &entry).await?.first().map(value).transpose()?;
    let is_there = present.is_some();
    let (change, answer) = decide(key, present)?;
    match change {
        Change::Leave => {}
        Change::Remove => _ = transaction.query(REMOVE, &entry).await?,
        Change::Put(kept) => {
            let [kind, value, layout] = kept.parameters();
            let parameters = [scope.service(), (key as _, Type::TEXT), kind, value, layout];
            let put = transaction.query(if is_there { UPDATE } else { INSERT }, &parameters).await?;
            if !is_there && put.is_empty() {
                return Ok(None);
            }
        }
    }
    Ok(Some(answer))
}

/// The lease a write depends on, if it does, as parameters.
struct Fence {
    lease: Option<Lease>,
    job: Option<Uuid>,
    number: Option<i64>,
}

impl Fence {
    fn new(lease: Option<Lease>) -> Self {
        Self { lease, job: lease.map(|lease| lease.job.as_uuid()), number: lease.map(|lease| lease.number) }
    }

    fn parameters(&self) -> [Parameter<'_>; 2] {
        [(&self.job, Type::UUID), (&self.number, Type::INT8)]
    }

    /// Only a lease can be refused.
    fn refusal(&self) -> StoreError {
        match self.lease {
            Some(lease) => StoreError::Superseded(lease.job),
            None => StoreError::Unavailable("the database changed nothing".into()),
        }
    }
}

/// A value in the form it is kept in.
#[derive(Clone)]
struct Kept {
    kind: &'static str,
    value: Vec<u8>,
    layout: Option<String>,
}

impl Kept {
    fn new(key: &str, value: StateValue, limit: usize) -> Result<Self, StoreError> {
        let kept = match value {
            StateValue::Json(json) => Self { kind: "json", value: json.to_string().into_bytes(), layout: None },
            StateValue::Bytes(bytes) => Self { kind: "bytes", value: bytes, layout: None },
            StateValue::Array(array) if !array.is_consistent() => {
                return Err(StoreError::InconsistentArray { key: key.to_owned() });
            }
            StateValue::Array(Array { dtype, shape, data }) => {
                Self { kind: "array", value: data, layout: Some(json(&Layout { dtype, shape })?) }
            }
        };
        let size = kept.value.len();
        if size > limit { Err(StoreError::ValueTooLarge { key: key.to_owned(), size, limit }) } else { Ok(kept) }
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [(&self.kind, Type::TEXT), (&self.value, Type::BYTEA), (&self.layout, Type::TEXT)]
    }
}

/// The least text that is behind all those with the prefix; `None` if there is none. UTF-8 sorts as its characters do.
fn end_of(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

fn key(row: &Row) -> Result<String, StoreError> {
    get(row, "key").map_err(corrupt("a state key"))
}

fn value(row: &Row) -> Result<StateValue, StoreError> {
    let key = key(row)?;
    decode(row).map_err(corrupt(format_args!("a state value for `{key}`")))
}

fn decode(row: &Row) -> Result<StateValue, Unreadable> {
    let value: &[u8] = get(row, "value")?;
    Ok(match get(row, "kind")? {
        "json" => StateValue::Json(from_json(value)?),
        "bytes" => StateValue::Bytes(value.to_vec()),
        _ => {
            let Layout { dtype, shape } = get_optional_json(row, "layout")?.ok_or("the layout is missing")?;
            StateValue::Array(Array { dtype, shape, data: value.to_vec() })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_prefix_ends_before_the_next() {
        for (prefix, end) in [("", None), ("a", Some("b")), ("a/", Some("a0")), ("\u{D7FF}", Some("\u{E000}")), ("a\u{10FFFF}", Some("b"))] {
            assert_eq!(end_of(prefix).as_deref(), end, "{prefix}");
        }
        assert_eq!(end_of("\u{10FFFF}"), None);
    }
}

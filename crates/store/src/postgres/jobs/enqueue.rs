//! Committing new jobs.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use dunnage_types::JobId;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::row;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::hints::Event;
use crate::postgres::rows::{corrupt, get, json, optional_json};
use crate::{Enqueued, NewJob, StoreError};

/// A claim takes the job of a key that has the lowest `seq`, so within a key the order of `seq` must be the order of commits: were
/// a job with a lower one committed later, it could meet a later job of its key already running. So whoever commits a job with a
/// key holds a lock on that key from before the rows draw their `seq` (they are joined to the locks) until the commit.
///
/// Idempotency keys are locked as well: two statements that waited for each other's rows in different orders would block each
/// other. All locks are taken in the order of their numbers, by everybody.
pub(in crate::postgres) const INSERT: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::int8[], $10::text[],
                             $11::text[])
            WITH ORDINALITY
            AS wanted (id, kind, files, params, key, idempotency_key, digest, max_attempts, callback, output_uri, position)),
    locked AS MATERIALIZED (
        SELECT count(pg_advisory_xact_lock(lock)) FROM (
            SELECT DISTINCT hashtextextended(name, 0) AS lock FROM (
                SELECT 'dunnage key ' || $1 || ' ' || key FROM wanted WHERE key IS NOT NULL
                UNION ALL
                SELECT 'dunnage request ' || $1 || ' ' || idempotency_key FROM wanted WHERE idempotency_key IS NOT NULL) AS names (name)
            ORDER BY lock) AS sorted)
    INSERT INTO job (service, id, kind, state, files, params, key, idempotency_key, digest, max_attempts, callback, callback_state,
                     output_uri, run_at, created_at)
    SELECT $1, id, kind, 'queued', files, params, key, idempotency_key, digest, max_attempts, callback,
           CASE WHEN callback IS NOT NULL THEN 'pending' END, output_uri, now(), now()
    FROM wanted, locked
    ORDER BY position
    ON CONFLICT DO NOTHING
    RETURNING id";

pub(in crate::postgres) const FIND: &str = "
    SELECT id, idempotency_key, digest FROM job WHERE service = $1 AND idempotency_key = ANY ($2)
    UNION ALL
    SELECT id, NULL, NULL FROM job WHERE service = $1 AND id = ANY ($3)";

/// A job in the form it is kept in.
pub(super) struct Kept {
    id: JobId,
    kind: &'static str,
    files: String,
    params: String,
    key: Option<String>,
    idempotency_key: Option<String>,
    digest: Option<Vec<u8>>,
    max_attempts: i64,
    callback: Option<String>,
    output_uri: Option<String>,
}

impl Kept {
    pub(super) fn new(job: &NewJob) -> Result<Self, StoreError> {
        Ok(Self {
            id: job.id,
            kind: job.kind.as_str(),
            files: json(&job.files)?,
            params: json(&job.params)?,
            key: optional_json(job.key.as_ref())?,
            idempotency_key: optional_json(job.idempotency.as_ref().map(|idempotency| &idempotency.key))?,
            digest: job.idempotency.as_ref().map(|idempotency| idempotency.digest.clone()),
            max_attempts: i64::from(job.max_attempts),
            callback: optional_json(job.callback.as_ref())?,
            output_uri: optional_json(job.output_uri.as_ref())?,
        })
    }
}

pub(super) struct Enqueue(pub(super) Scope);

#[async_trait]
impl Batch for Enqueue {
    type Call = Kept;
    type Answer = Enqueued;
    /// Each job comes with the id its caller drew, so it is found if it was committed before.
    const IS_REPEATABLE: bool = true;

    fn job(_: &Kept) -> Option<JobId> {
        None
    }

    async fn run(&self, jobs: &[Kept]) -> Result<Vec<Result<Enqueued, StoreError>>, StoreError> {
        let mut created = self.insert(jobs).await?;
        if !created.is_empty() {
            self.0.tell(Event::Work);
        }
        if created.len() == jobs.len() {
            return Ok(jobs.iter().map(|job| Ok(Enqueued::Created(job.id))).collect());
        }
        let before = self.find(jobs).await?;
        // Of two calls with the same id, the first has made the job.
        Ok(jobs
            .iter()
            .map(|job| if created.remove(&job.id) { Ok(Enqueued::Created(job.id)) } else { before.answer(job) })
            .collect())
    }
}

impl Enqueue {
    /// The ids of the jobs that are new.
    async fn insert(&self, jobs: &[Kept]) -> Result<HashSet<JobId>, StoreError> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.as_uuid()).collect();
        let kinds: Vec<_> = jobs.iter().map(|job| job.kind).collect();
        let files: Vec<_> = jobs.iter().map(|job| job.files.as_str()).collect();
        let params: Vec<_> = jobs.iter().map(|job| job.params.as_str()).collect();
        let keys: Vec<_> = jobs.iter().map(|job| job.key.as_deref()).collect();
        let idempotency_keys: Vec<_> = jobs.iter().map(|job| job.idempotency_key.as_deref()).collect();
        let digests: Vec<_> = jobs.iter().map(|job| job.digest.as_deref()).collect();
        let max_attempts: Vec<_> = jobs.iter().map(|job| job.max_attempts).collect();
        let callbacks: Vec<_> = jobs.iter().map(|job| job.callback.as_deref()).collect();
        let output_uris: Vec<_> = jobs.iter().map(|job| job.output_uri.as_deref()).collect();
        let parameters = [
            self.0.service(),
            (&ids as _, Type::UUID_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&files, Type::TEXT_ARRAY),
            (&params, Type::TEXT_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&idempotency_keys, Type::TEXT_ARRAY),
            (&digests, Type::BYTEA_ARRAY),
            (&max_attempts, Type::INT8_ARRAY),
            (&callbacks, Type::TEXT_ARRAY),
            (&output_uris, Type::TEXT_ARRAY),
        ];
        self.0.once(INSERT, &parameters).await?.iter().map(row::id).collect()
    }

    async fn find(&self, jobs: &[Kept]) -> Result<Before, StoreError> {
        let keys: Vec<_> = jobs.iter().filter_map(|job| job.idempotency_key.as_deref()).collect();
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.as_uuid()).collect();
        let parameters = [self.0.service(), (&keys as _, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY)];
        let mut before = Before::default();
        for found in &self.0.once(FIND, &parameters).await? {
            let id = row::id(found)?;
            let unreadable = || corrupt(format_args!("the idempotency key of job `{id}`").to_string());
            match get(found, "idempotency_key").map_err(unreadable())? {
                Some(key) => _ = before.by_key.insert(key, (id, get(found, "digest").map_err(unreadable())?)),
                None => _ = before.ids.insert(id),
            }
        }
        Ok(before)
    }
}

/// The jobs that were there before.
#[derive(Default)]
struct Before {
    by_key: HashMap<String, (JobId, Option<Vec<u8>>)>,
    ids: HashSet<JobId>,
}

impl Before {
    fn answer(&self, job: &Kept) -> Result<Enqueued, StoreError> {
        if let Some((id, digest)) = job.idempotency_key.as_ref().and_then(|key| self.by_key.get(key)) {
            return if *digest == job.digest { Ok(Enqueued::Existing(*id)) } else { Err(StoreError::IdempotencyMismatch) };
        }
        // A caller that did not hear of its commit asks again with the id it drew.
        if self.ids.contains(&job.id) {
            return Ok(Enqueued::Existing(job.id));
        }
        Err(StoreError::Unavailable("the job of the same request was removed in this moment; the same call will succeed".into()))
    }
}

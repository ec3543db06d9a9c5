//! Committing new jobs.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use dunnage_types::{JobId, ReplicaId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::claim::active;
use super::row;
use crate::jobs::PASSED_BY;
use crate::postgres::Scope;
use crate::postgres::batch::Batch;
use crate::postgres::hints::Event;
use crate::postgres::rows::{Unreadable, corrupt, get, get_time, json, optional_json, seconds};
use crate::{Committed, Enqueued, NewJob, StoreError, Terms};

/// New jobs, of which those that come with a replica are handed out to it if they may be; see [`Jobs::enqueue_claimed`].
///
/// [`Jobs::enqueue_claimed`]: crate::Jobs::enqueue_claimed
pub(in crate::postgres) const INSERT: &str =
    "SELECT * FROM enqueue_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

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
    taker: Option<Taker>,
}

/// Who would have the job at once, and the job as it would be handed out.
struct Taker {
    replica: Uuid,
    terms: Terms,
    job: NewJob,
}

impl Kept {
    pub(super) fn new(job: &NewJob) -> Result<Self, StoreError> {
        Ok(Self {
            taker: None,
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

    /// A job that `replica` would run at once, if it may be.
    pub(super) fn offered_to(replica: ReplicaId, terms: Terms, job: NewJob) -> Result<Self, StoreError> {
        let kept = Self::new(&job)?;
        let taker = job.can_pass_by().then(|| Taker { replica: replica.as_uuid(), terms, job });
        Ok(Self { taker, ..kept })
    }

    /// What a caller is told of the row that was made of the job.
    fn committed(&self, row: &Row) -> Result<Committed, Unreadable> {
        let claimed = match &self.taker {
            Some(taker) if get(row, "is_claimed")? => Some(taker.job.clone().claimed(get_time(row, "created_at")?, active(row)?)),
            _ => None,
        };
        Ok(Committed { enqueued: Enqueued::Created(self.id), claimed })
    }
}

pub(super) struct Enqueue(pub(super) Scope);

#[async_trait]
impl Batch for Enqueue {
    type Call = Kept;
    type Answer = Committed;
    /// Each job comes with the id its caller drew, so it is found if it was committed before.
    const IS_REPEATABLE: bool = true;

    fn job(_: &Kept) -> Option<JobId> {
        None
    }

    async fn run(&self, jobs: &[Kept]) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let mut created = self.insert(jobs).await?;
        let before = if created.len() == jobs.len() { Before::default() } else { self.find(jobs).await? };
        // Of two calls with the same id, the first has made the job.
        Ok(jobs
            .iter()
            .map(|job| match created.remove(&job.id) {
                Some(row) => job.committed(&row).map_err(corrupt(format_args!("job `{}` as it was committed", job.id))),
                None => before.answer(job).map(|enqueued| Committed { enqueued, claimed: None }),
            })
            .collect())
    }
}

impl Enqueue {
    /// The jobs that are new.
    async fn insert(&self, jobs: &[Kept]) -> Result<HashMap<JobId, Row>, StoreError> {
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
        let takers = || jobs.iter().map(|job| job.taker.as_ref());
        let replicas: Vec<_> = takers().map(|taker| taker.map(|taker| taker.replica)).collect();
        let leases: Vec<_> = takers().map(|taker| taker.map(|taker| seconds(taker.terms.lease))).collect();
        let limits: Vec<_> = takers().map(|taker| taker.map(|taker| seconds(taker.terms.limit))).collect();
        let passed_by = seconds(PASSED_BY);
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
            (&replicas, Type::UUID_ARRAY),
            (&leases, Type::FLOAT8_ARRAY),
            (&limits, Type::FLOAT8_ARRAY),
            (&passed_by, Type::FLOAT8),
        ];
        let rows = self.0.once(INSERT, &parameters).await?;
        let mut created = HashMap::with_capacity(rows.len());
        let mut is_waiting = false;
        for row in rows {
            is_waiting |= !get::<bool>(&row, "is_claimed").map_err(corrupt("a job as it was committed"))?;
            created.insert(row::id(&row)?, row);
        }
        if is_waiting {
            self.0.tell(Event::Work);
        }
        Ok(created)
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

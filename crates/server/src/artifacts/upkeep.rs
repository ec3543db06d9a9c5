//! Removing what no version needs, again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dunnage_loops::Beat;
use dunnage_store::{Store, StoreError};
use dunnage_types::{Version, VersionState};

use crate::app::App;
use crate::problem::chain;

/// How often what nobody needs is looked for.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// How long one search may take.
const SWEEP_LIMIT: Duration = Duration::from_hours(1);
/// While servers run, what is younger is left alone: an attempt may be about to publish it. It takes an hour at most to store one.
const SWEEP_AGE: Duration = Duration::from_hours(24);
/// A replica that was heard of within this time may still serve what it said.
const MAY_SERVE: Duration = Duration::from_hours(24);

/// Sweeps at once and then every hour, for as long as it is polled. Failures are told and tried again.
pub(crate) async fn sweep_now_and_then(app: Arc<App>, beat: Beat) {
    loop {
        beat.within(SWEEP_LIMIT);
        match needed(&*app.store).await {
            Ok(needed) => sweep(&app, Arc::new(needed)).await,
            Err(error) => tracing::error!(error = %chain(&error), "artifacts that no version needs cannot be looked for"),
        }
        beat.rest(SWEEP_EVERY.mul_f64(rand::random_range(0.75..=1.25))).await;
    }
}

async fn sweep(app: &App, needed: Arc<BTreeSet<String>>) {
    match app.artifacts.sweep_local(Arc::clone(&needed), SWEEP_AGE).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "artifacts that no version needs were removed"),
        Err(error) => tracing::error!(%error, "artifacts that no version needs cannot be removed"),
    }
    match app.artifacts.sweep_remote(&needed).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "artifacts that no version needs were removed from the bucket"),
        Err(error) => tracing::error!(error = %chain(&error), "artifacts that no version needs cannot be removed from the bucket"),
    }
}

/// The names of all artifacts that are in use or may be: of versions that can be activated, and of those that a replica has lately said it
/// serves.
pub(crate) async fn needed(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    store.retract_orphans().await?;
    let replicas = store.replicas(MAY_SERVE).await?;
    let served: BTreeSet<Version> = replicas.into_iter().filter_map(|replica| replica.presence.serving).collect();
    let versions = store.versions().await?.into_iter();
    let needed = versions.filter(|it| it.active || it.state == VersionState::Ready || served.contains(&it.version));
    Ok(needed.map(|version| version.artifact).collect())
}

#[cfg(test)]
mod tests {
    use dunnage_store::{Jobs, NewJob, Replicas, SqliteStore, StateLimits, Terms, Versions};
    use dunnage_types::{JobId, JobKind, JsonObject, Presence, ReplicaId};

    use super::*;

    const LEASE: Duration = Duration::from_mins(10);

    /// A version that cannot be activated any more is kept for as long as somebody says that it serves there.
    #[tokio::test]
    async fn what_a_replica_serves_is_needed_although_it_can_never_be_activated() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), "tests".parse().unwrap(), StateLimits::default()).unwrap();
        let (id, kind, params) = (JobId::random(), JobKind::Train, JsonObject::new());
        let (key, idempotency, callback, output_uri) = (None, None, None, None);
        let job = NewJob { id, kind, params, files: Vec::new(), key, idempotency, callback, output_uri, max_attempts: 1 };
        store.enqueue(job).await.unwrap();
        let lease = store.claim(ReplicaId::random(), 1, Terms { lease: LEASE, limit: LEASE }).await.unwrap()[0].lease;
        for artifact in ["ready", "bad", "served"] {
            store.publish(lease, artifact).await.unwrap();
        }
        let version = |number| Version::new(number).unwrap();
        store.mark_bad(version(2), "broken").await.unwrap();
        store.mark_bad(version(3), "broken").await.unwrap();
        let presence = Presence { serving: Some(version(3)), ready: true, error: None };
        store.announce(ReplicaId::random(), &presence, LEASE).await.unwrap();
        let needed = needed(&store).await.unwrap();
        assert_eq!(needed.into_iter().collect::<Vec<_>>(), ["ready", "served"]);
    }
}

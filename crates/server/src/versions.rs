//! How a version comes to serve: warmed in workers of its own, then swapped in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunnage_store::{Finish, Lease, StoreError};
use dunnage_types::{Job, ModelVersion, Version};
use dunnage_workers::{Interrupt, Standby};
use serde_json::Value;
use tokio::sync::{MutexGuard, watch};

use crate::app::{App, killed};
use crate::artifacts::{ArtifactName, SealError, UploadError};
use crate::jobs::{Settlement, persist};
use crate::problem::{Code, Problem, chain};
use crate::results::{self, Unwritten};

/// How long requests may wait for the commit that makes a version active.
const COMMIT_LIMIT: Duration = Duration::from_secs(2);

/// Publishes what an attempt has written, has it take over, and ends the job as done, all before anybody can see one of them. The
/// result is in its object by then, if it has one, which tells of no version that cannot be loaded.
///
/// Loading the new version may take long, and so may writing the result; both are given up when the attempt is killed.
///
/// # Errors
///
/// [`PublishError`]; the job has then not been ended, and the version that served before goes on.
pub(crate) async fn publish_and_finish(
    app: &Arc<App>,
    job: &Job,
    lease: Lease,
    result: Value,
    interrupts: &watch::Receiver<Interrupt>,
) -> Result<Version, PublishError> {
    let name = keep(app, lease, interrupts).await?;
    let (_turn, version) = match publish(app, lease, &name, interrupts).await {
        Ok(published) => published,
        Err(error) => {
            abandon(app, &name).await;
            return Err(error);
        }
    };
    let standby = match prepare(app, unpublished(lease, version, &name), interrupts).await {
        Ok(standby) => standby,
        Err(unready) => {
            let reason = unready.as_deref().unwrap_or("its job was ended before it could be loaded");
            persist(interrupts, || app.store.mark_bad(version, reason)).await?;
            let unusable = |reason| PublishError::Unusable { version, reason };
            return Err(unready.map_or(PublishError::Killed, unusable));
        }
    };
    if let Err(unwritten) = results::write(app, job, &result, Some(version), interrupts).await {
        retract(app, version).await;
        return Err(unwritten.into());
    }
    let finish = Finish::Done { result, activate: Some(version) };
    if let Err(error) = take_over(app, standby, lease, &finish, interrupts).await {
        retract(app, version).await;
        return Err(error.into());
    }
    app.presence.changed();
    tracing::info!(%version, job = %lease.job, "a new version serves");
    Ok(version)
}

/// Takes back a version that was trained by an attempt which does not count, unless it counts after all: the answer that said so may
/// have been lost.
async fn retract(app: &App, version: Version) {
    if let Err(error) = app.store.retract(version, "its job did not end well").await {
        tracing::warn!(error = %chain(&error), %version, "a version cannot be taken back now; the next sweep does so");
    }
}

/// Makes what an attempt has written complete, here and in the bucket, before anybody is told of it. Nobody has to wait for that: no version
/// takes over yet.
async fn keep(app: &App, lease: Lease, interrupts: &watch::Receiver<Interrupt>) -> Result<ArtifactName, PublishError> {
    let name = app.artifacts.complete(lease).await?;
    let uploaded = tokio::select! {
        uploaded = app.artifacts.upload(&name) => uploaded.map_err(PublishError::Upload),
        interrupted = interrupted(interrupts.clone()) => Err(interrupted),
    };
    if uploaded.is_err() {
        abandon(app, &name).await;
    }
    uploaded.map(|()| name)
}

/// Ends when the attempt is to be killed or cancelled, and tells which. Storage may be away for so long that somebody gives up.
async fn interrupted(mut interrupts: watch::Receiver<Interrupt>) -> PublishError {
    match interrupts.wait_for(|wanted| *wanted != Interrupt::None).await.map(|wanted| *wanted) {
        Ok(Interrupt::Cancel) => PublishError::Cancelled,
        Ok(_) => PublishError::Killed,
        // Nobody is left who could want it.
        Err(_) => std::future::pending().await,
    }
}

/// Makes a version of an artifact when it is this attempt's turn to have one take over; the turn goes with the version.
async fn publish<'a>(
    app: &'a App,
    lease: Lease,
    name: &ArtifactName,
    interrupts: &watch::Receiver<Interrupt>,
) -> Result<(MutexGuard<'a, ()>, Version), PublishError> {
    let turn = tokio::select! {
        turn = app.taking_over.lock() => turn,
        () = killed(interrupts.clone()) => return Err(PublishError::Killed),
    };
    let name = name.to_string();
    let version = persist(interrupts, || app.store.publish(lease, &name)).await?;
    Ok((turn, version))
}

/// Removes an artifact that is not published. It may be what fills the disk, so that nothing can be written.
async fn abandon(app: &App, name: &ArtifactName) {
    if let Err(error) = app.artifacts.abandon(name).await {
        tracing::warn!(%error, %name, "an artifact that could not be published cannot be removed; the next sweep tries again");
    }
}

/// Loads a version; the error is why it cannot be loaded, or `None` if the attempt was killed meanwhile.
async fn prepare(app: &App, version: ModelVersion, interrupts: &watch::Receiver<Interrupt>) -> Result<Standby, Option<String>> {
    let prepared = async {
        let artifact = app.artifacts.obtain(&version).await.map_err(|error| error.to_string())?;
        app.pool.prepare(Some(artifact)).await
    };
    tokio::select! {
        prepared = prepared => prepared.map_err(Some),
        () = killed(interrupts.clone()) => Err(None),
    }
}

/// Has a version that is loaded take over when the end of its job is committed. Requests wait during a try, so none takes long; while
/// the database is away, the workers that served before go on between the tries.
async fn take_over(
    app: &App,
    standby: Standby,
    lease: Lease,
    finish: &Finish,
    interrupts: &watch::Receiver<Interrupt>,
) -> Result<(), StoreError> {
    let settlement = Settlement::new(&*app.store, lease);
    let waiting = tokio::sync::Mutex::new(Some(standby));
    let attempt = || async {
        let mut waiting = waiting.lock().await;
        let Some(standby) = waiting.take() else { return Ok(()) };
        match app.pool.take_over(standby, settlement.finish_within(COMMIT_LIMIT, finish)).await {
            Ok(()) => Ok(()),
            Err((standby, error)) => {
                *waiting = Some(standby);
                Err(error)
            }
        }
    };
    persist(interrupts, attempt).await
}

/// Has an older (or newer) version take over.
///
/// # Errors
///
/// A [`Problem`]; the version that served before then goes on.
pub(crate) async fn activate(app: &App, version: Version) -> Result<(), Problem> {
    let versions = app.store.versions().await?;
    let wanted = versions.iter().find(|known| known.version == version).ok_or(StoreError::UnknownVersion(version))?;
    if wanted.state == dunnage_types::VersionState::Bad {
        return Err(StoreError::BadVersion(version).into());
    }
    let unusable = |reason| Problem::new(Code::VersionBad, format!("version {version} cannot serve: {reason}"));
    // Before it is this version's turn: it may have to be fetched, and others can serve meanwhile.
    let artifact = app.artifacts.obtain(wanted).await.map_err(|error| unusable(error.to_string()))?;
    let _turn = app.taking_over.lock().await;
    let standby = app.pool.prepare(Some(artifact)).await.map_err(unusable)?;
    app.pool.take_over(standby, commit_activation(app, version)).await.map_err(|(_, error)| error)?;
    app.presence.changed();
    tracing::info!(%version, "an earlier version was activated and serves");
    Ok(())
}

/// Commits that a version is the active one. If the answer is lost and it is so all the same, this replica follows like the others.
async fn commit_activation(app: &App, version: Version) -> Result<(), StoreError> {
    let committed = tokio::time::timeout(COMMIT_LIMIT, app.store.activate(version)).await;
    committed.unwrap_or_else(|_| Err(StoreError::Unavailable(format!("it did not answer within {COMMIT_LIMIT:?}").into())))
}

/// Has the active version take over here, which another replica made so; or serve, if this replica has just started.
///
/// # Errors
///
/// Why it cannot serve here, with its number; the version that served before then goes on.
pub(crate) async fn catch_up(app: &App) -> Result<(), CatchUpError> {
    let Some(active) = ahead(app).await? else { return Ok(()) };
    let version = active.version;
    let unusable = |reason| CatchUpError::Unusable { version, reason };
    // Before it is this version's turn: it may have to be fetched, and others can be made to serve meanwhile.
    let artifact = app.artifacts.obtain(&active).await.map_err(|error| unusable(error.to_string()))?;
    let _turn = app.taking_over.lock().await;
    if ahead(app).await?.is_none_or(|active| active.version != version) {
        return Ok(());
    }
    if !app.pool.has_begun() {
        app.pool.serve(artifact).await;
        return Ok(());
    }
    let standby = app.pool.prepare(Some(artifact)).await.map_err(unusable)?;
    let nothing_to_commit = async { Ok::<_, String>(()) };
    app.pool.take_over(standby, nothing_to_commit).await.map_err(|(_, reason)| unusable(reason))?;
    tracing::info!(%version, "the version that became active elsewhere serves here too");
    Ok(())
}

/// The active version, unless it is the one that serves here.
async fn ahead(app: &App) -> Result<Option<ModelVersion>, StoreError> {
    Ok(app.store.active().await?.filter(|active| Some(active.version) != app.pool.status().version))
}

/// Replaces every worker by one that has loaded the script as it is now.
///
/// # Errors
///
/// Why the script cannot be loaded; the workers that served before then go on.
pub(crate) async fn reload(app: &App) -> Result<(), String> {
    let _turn = app.taking_over.lock().await;
    let active = app.store.active().await.map_err(|error| chain(&error))?;
    let artifact = match active {
        Some(version) => Some(app.artifacts.obtain(&version).await.map_err(|error| error.to_string())?),
        None => None,
    };
    let standby = app.pool.prepare(artifact).await?;
    app.pool.take_over(standby, async { Ok::<_, String>(()) }).await.map_err(|(_, error)| error)?;
    app.reloads.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// A version as it is between its publication and its activation.
fn unpublished(lease: Lease, version: Version, artifact: &ArtifactName) -> ModelVersion {
    ModelVersion {
        version,
        state: dunnage_types::VersionState::Ready,
        active: false,
        artifact: artifact.to_string(),
        job: lease.job,
        created_at: dunnage_types::Timestamp::now(),
        error: None,
    }
}

/// Why this replica does not serve the active version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatchUpError {
    /// It cannot be loaded here.
    #[error("version {version} cannot serve here: {reason}")]
    Unusable {
        /// Its number.
        version: Version,
        /// Why.
        reason: String,
    },
    /// The database does not say which it is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why training led to no version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// What it wrote cannot be kept.
    #[error("the artifact cannot be kept")]
    Unkept(#[from] SealError),
    /// What it wrote cannot be stored where other replicas find it.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The new version cannot be loaded, or fails its own test.
    #[error("version {version} cannot serve: {reason}")]
    Unusable {
        /// Its number.
        version: Version,
        /// Why.
        reason: String,
    },
    /// The attempt was killed while the new version was being loaded.
    #[error("the attempt was ended")]
    Killed,
    /// The job is to be cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// The result could not be written to its object.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

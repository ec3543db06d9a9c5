//! How a version comes to serve: warmed in workers of its own, then swapped in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunnage_protocol::Artifact;
use dunnage_store::{Finish, Lease, StoreError};
use dunnage_types::{Job, ModelVersion, Version};
use dunnage_workers::{Interrupt, Standby};
use serde_json::Value;
use tokio::sync::watch;

use crate::app::{App, killed};
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
    let _turn = tokio::select! {
        turn = app.taking_over.lock() => turn,
        () = killed(interrupts.clone()) => return Err(PublishError::Killed),
    };
    let (version, artifact) = publish(app, lease, interrupts).await?;
    let standby = match prepare(app, artifact, interrupts).await {
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

/// Makes a version of what an attempt has written.
async fn publish(
    app: &Arc<App>,
    lease: Lease,
    interrupts: &watch::Receiver<Interrupt>,
) -> Result<(Version, Artifact), PublishError> {
    let name = complete(app, lease).await.map_err(PublishError::Disk)?;
    match persist(interrupts, || app.store.publish(lease, &name)).await {
        Ok(version) => Ok((version, app.artifacts.of(&unpublished(lease, version, name)))),
        Err(error) => {
            // It may be what fills the disk, so that nothing can be written.
            if let Err(error) = app.artifacts.abandon(&name) {
                tracing::warn!(%error, name, "an artifact that could not be published cannot be removed");
            }
            Err(error.into())
        }
    }
}

/// Loads a version; the error is why it cannot be loaded, or `None` if the attempt was killed meanwhile.
async fn prepare(app: &App, artifact: Artifact, interrupts: &watch::Receiver<Interrupt>) -> Result<Standby, Option<String>> {
    tokio::select! {
        prepared = app.pool.prepare(Some(artifact)) => prepared.map_err(Some),
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

/// Writing out a large artifact takes long, and would hold up everything else on this thread.
async fn complete(app: &Arc<App>, lease: Lease) -> io::Result<String> {
    let shared = Arc::clone(app);
    let completed = tokio::task::spawn_blocking(move || shared.artifacts.complete(lease)).await;
    completed.map_err(io::Error::other)?
}

/// Has an older (or newer) version take over.
///
/// # Errors
///
/// A [`Problem`]; the version that served before then goes on.
pub(crate) async fn activate(app: &App, version: Version) -> Result<(), Problem> {
    let _turn = app.taking_over.lock().await;
    let versions = app.store.versions().await?;
    let wanted = versions.iter().find(|known| known.version == version).ok_or(StoreError::UnknownVersion(version))?;
    if wanted.state == dunnage_types::VersionState::Bad {
        return Err(StoreError::BadVersion(version).into());
    }
    let unusable = |reason| Problem::new(Code::VersionBad, format!("version {version} cannot serve: {reason}"));
    let artifact = app.artifacts.find(wanted).map_err(unusable)?;
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

/// Has the active version take over here, which another replica made so.
///
/// # Errors
///
/// Why it cannot serve here, with its number; the version that served before then goes on.
pub(crate) async fn catch_up(app: &App) -> Result<(), CatchUpError> {
    let _turn = app.taking_over.lock().await;
    // Only now: it may have changed while this replica was busy with another.
    let Some(active) = app.store.active().await?.filter(|active| Some(active.version) != app.pool.status().version) else {
        return Ok(());
    };
    let version = active.version;
    let unusable = |reason| CatchUpError::Unusable { version, reason };
    let artifact = app.artifacts.find(&active).map_err(unusable)?;
    let standby = app.pool.prepare(Some(artifact)).await.map_err(unusable)?;
    let nothing_to_commit = async { Ok::<_, String>(()) };
    app.pool.take_over(standby, nothing_to_commit).await.map_err(|(_, reason)| unusable(reason))?;
    tracing::info!(%version, "the version that became active elsewhere serves here too");
    Ok(())
}

/// Replaces every worker by one that has loaded the script as it is now.
///
/// # Errors
///
/// Why the script cannot be loaded; the workers that served before then go on.
pub(crate) async fn reload(app: &App) -> Result<(), String> {
    let _turn = app.taking_over.lock().await;
    let active = app.store.active().await.map_err(|error| chain(&error))?;
    let artifact = active.map(|version| app.artifacts.find(&version)).transpose()?;
    let standby = app.pool.prepare(artifact).await?;
    app.pool.take_over(standby, async { Ok::<_, String>(()) }).await.map_err(|(_, error)| error)?;
    app.reloads.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// A version as it is between its publication and its activation.
fn unpublished(lease: Lease, version: Version, artifact: String) -> ModelVersion {
    ModelVersion {
        version,
        state: dunnage_types::VersionState::Ready,
        active: false,
        artifact,
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
    Disk(#[source] io::Error),
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
    /// The result could not be written to its object.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

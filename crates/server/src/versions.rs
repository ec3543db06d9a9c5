//! How a version comes to serve: warmed in workers of its own, then swapped in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dunnage_store::{Finish, Lease, StoreError};
use dunnage_types::{ModelVersion, Version};
use serde_json::Value;

use crate::app::App;
use crate::problem::{Code, Problem, chain};

/// Publishes what an attempt has written, has it take over, and ends the job as done, all before anybody can see one of them.
///
/// Loading the new version may take long; it is given up when `killed` ends.
///
/// # Errors
///
/// [`PublishError`]; the job has then not been ended, and the version that served before goes on.
pub(crate) async fn publish_and_finish(
    app: &Arc<App>,
    lease: Lease,
    result: Value,
    killed: impl Future<Output = ()>,
) -> Result<Version, PublishError> {
    let _turn = app.taking_over.lock().await;
    let artifact = complete(app, lease).await.map_err(PublishError::Disk)?;
    let version = app.store.publish(lease, &artifact).await?;
    let artifact = app.artifacts.of(&unpublished(lease, version, artifact));
    let prepared = tokio::select! {
        prepared = app.pool.prepare(Some(artifact)) => Some(prepared),
        () = killed => None,
    };
    let standby = match prepared {
        Some(Ok(standby)) => standby,
        Some(Err(reason)) => {
            app.store.mark_bad(version, &reason).await?;
            return Err(PublishError::Unusable { version, reason });
        }
        None => {
            app.store.mark_bad(version, "its job was ended before it could be loaded").await?;
            return Err(PublishError::Killed);
        }
    };
    let finish = Finish::Done { result, activate: Some(version) };
    if let Err(error) = app.pool.take_over(standby, app.store.finish(lease, finish)).await {
        // It was trained by an attempt that does not count.
        app.store.mark_bad(version, "its job did not end well").await?;
        return Err(error.into());
    }
    tracing::info!(%version, job = %lease.job, "a new version serves");
    Ok(version)
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
    let unusable = |reason| Problem::new(Code::VersionBad, format!("version {version} cannot be loaded: {reason}"));
    let standby = app.pool.prepare(Some(app.artifacts.of(wanted))).await.map_err(unusable)?;
    app.pool.take_over(standby, app.store.activate(version)).await?;
    tracing::info!(%version, "an earlier version was activated and serves");
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
    let standby = app.pool.prepare(active.map(|version| app.artifacts.of(&version))).await?;
    app.pool.take_over(standby, async { Ok::<_, String>(()) }).await?;
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

/// Why training led to no version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// What it wrote cannot be kept.
    #[error("the artifact cannot be kept")]
    Disk(#[source] io::Error),
    /// The new version cannot be loaded.
    #[error("version {version} cannot be loaded: {reason}")]
    Unusable {
        /// Its number.
        version: Version,
        /// Why.
        reason: String,
    },
    /// The attempt was killed while the new version was being loaded.
    #[error("the attempt was ended")]
    Killed,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

//! How a version comes to serve: warmed in workers of its own, then swapped in.

use std::sync::atomic::Ordering;

use dunnage_store::{Finish, Lease, StoreError};
use dunnage_types::{ModelVersion, Version};
use serde_json::Value;

use crate::app::App;
use crate::problem::{Code, Problem, chain};

/// Publishes what an attempt has written, has it take over, and ends the job as done, all before anybody can see one of them.
///
/// # Errors
///
/// [`PublishError`]; the job has then not been ended, and the version that served before goes on.
pub(crate) async fn publish_and_finish(app: &App, lease: Lease, result: Value) -> Result<Version, PublishError> {
    let _turn = app.taking_over.lock().await;
    let artifact = app.artifacts.complete(lease).map_err(PublishError::Disk)?;
    let version = app.store.publish(lease, &artifact).await?;
    let standby = match app.pool.prepare(Some(app.artifacts.of(&unpublished(lease, version, artifact)))).await {
        Ok(standby) => standby,
        Err(reason) => {
            app.store.mark_bad(version, &reason).await?;
            return Err(PublishError::Unusable { version, reason });
        }
    };
    let finish = Finish::Done { result, activate: Some(version) };
    if let Err(error) = app.pool.take_over(standby, app.store.finish(lease, finish)).await {
        // Its artifact is about to be removed, so that nobody may activate it later.
        app.store.mark_bad(version, "its job did not end well").await?;
        return Err(error.into());
    }
    tracing::info!(%version, job = %lease.job, "a new version serves");
    Ok(version)
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
    Disk(#[source] std::io::Error),
    /// The new version cannot be loaded.
    #[error("version {version} cannot be loaded: {reason}")]
    Unusable {
        /// Its number.
        version: Version,
        /// Why.
        reason: String,
    },
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

//! `/models`: what has been trained, and which version serves.

use actix_web::{HttpResponse, web};
use dunnage_types::{JobId, ModelVersion, Presence, Replica, ReplicaId, Timestamp, Version, VersionState};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Sight;
use crate::app::App;
use crate::fleet::PRESENT;
use crate::problem::{Code, Problem, ProblemBody};
use crate::versions;

/// The versions of a service.
#[derive(Serialize, ToSchema)]
pub(crate) struct Models {
    /// The service.
    service: String,
    /// The version that is active, if any has been published.
    #[schema(value_type = Option<u32>)]
    active: Option<Version>,
    /// The version that this replica serves right now.
    #[schema(value_type = Option<u32>)]
    serving: Option<Version>,
    /// Every version, newest first.
    versions: Vec<Model>,
    /// The replicas that are there, this one among them, the oldest first.
    replicas: Vec<ReplicaBody>,
}

/// One replica, as it last said of itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplicaBody {
    /// Its name, for this life.
    #[schema(value_type = String, format = "uuid")]
    id: String,
    /// Whether it is the one that answers.
    is_this: bool,
    /// The version it serves; left out before the first, and while no worker is ready.
    #[schema(value_type = Option<u32>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<Version>,
    /// Whether it answers `/output`.
    ready: bool,
    /// Why it does not serve the active version.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it started.
    #[schema(value_type = String, format = "date-time")]
    started_at: Timestamp,
    /// When it was last heard of.
    #[schema(value_type = String, format = "date-time")]
    seen_at: Timestamp,
}

/// One version.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Model {
    /// Its number.
    #[schema(value_type = u32)]
    version: Version,
    /// `ready`, or `bad` if it cannot be loaded or fails its own test.
    #[schema(value_type = String)]
    state: VersionState,
    /// Whether it is the active one.
    active: bool,
    /// The training job that made it.
    #[schema(value_type = String, format = "uuid")]
    job: JobId,
    /// When it was published.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// Why it is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A version that has been made the active one.
#[derive(Serialize, ToSchema)]
pub(crate) struct Activated {
    /// Its number.
    #[schema(value_type = u32)]
    version: Version,
    /// Always true.
    active: bool,
}

/// Lists versions, and which replica serves which.
#[utoipa::path(get, path = "/models", operation_id = "list_models", tag = "models", responses((
    status = 200, description = "The versions", body = Models,
    links(("activate" = (operation_id = "activate", parameters(("version" = "$response.body#/versions/0/version"))))),
)))]
pub(crate) async fn list(app: web::Data<App>, sight: Sight) -> Result<HttpResponse, Problem> {
    let versions = app.store.versions().await?;
    let replicas = app.store.replicas(PRESENT).await?;
    Ok(HttpResponse::Ok().json(Models {
        service: app.config.service.name.to_string(),
        active: versions.iter().find(|version| version.active).map(|version| version.version),
        serving: app.pool.status().version,
        versions: versions.into_iter().map(|version| Model::seen(version, sight)).collect(),
        replicas: replicas.into_iter().map(|replica| ReplicaBody::seen(replica, app.replica, sight)).collect(),
    }))
}

/// Has a version serve; it is loaded in fresh workers before it takes over, and no request fails.
#[utoipa::path(
    post, path = "/models/{version}/activate", tag = "models",
    params(("version" = u32, Path, description = "The version's number")),
    responses(
        (status = 200, description = "The version serves", body = Activated),
        (status = "4XX", description = "There is no such version, or it cannot serve", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn activate(app: web::Data<App>, version: web::Path<String>) -> Result<HttpResponse, Problem> {
    let unknown = |_| Problem::new(Code::VersionUnknown, "versions are numbered from 1; see `/models`");
    let version: Version = version.parse().map_err(unknown)?;
    let app = app.into_inner();
    // In a task of its own: a client that hangs up must not stop it half way.
    let activated = tokio::spawn(async move { versions::activate(&app, version).await }).await;
    activated.map_err(|error| {
        tracing::error!(%error, "activating a version failed");
        Problem::new(Code::Internal, "the version could not be activated; the server's log says why")
    })??;
    Ok(HttpResponse::Ok().json(Activated { version, active: true }))
}

impl ReplicaBody {
    fn seen(replica: Replica, this: ReplicaId, sight: Sight) -> Self {
        let Replica { id, presence: Presence { serving, ready, error }, started_at, seen_at } = replica;
        Self { id: id.to_string(), is_this: id == this, serving, ready, error: reason(error, sight), started_at, seen_at }
    }
}

impl Model {
    fn seen(version: ModelVersion, sight: Sight) -> Self {
        let ModelVersion { version, state, active, job, created_at, error, artifact: _ } = version;
        Self { version, state, active, job, created_at, error: reason(error, sight) }
    }
}

/// Why something could not be loaded, for those who may know.
fn reason(error: Option<String>, sight: Sight) -> Option<String> {
    error.filter(|_| sight >= Sight::Reasons)
}

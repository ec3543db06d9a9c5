//! `/healthz/*`: what orchestrators ask.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::{Code, Problem, ProblemBody};

/// All is well.
#[derive(Serialize, ToSchema)]
pub(crate) struct Healthy {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

/// The process answers, and what runs in its background does so. Whether it can answer requests is another question.
#[utoipa::path(
    get, path = "/healthz/live", tag = "health",
    responses(
        (status = 200, description = "Leave it running", body = Healthy),
        (status = 503, description = "Start it again, for the reason given", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn live(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let ailing: Vec<_> = app.loops.ailing().iter().map(ToString::to_string).collect();
    if ailing.is_empty() { Ok(ok()) } else { Err(Problem::new(Code::LoopAiling, ailing.join("; "))) }
}

/// The server can answer requests now: a worker is loaded, the database answers, the cache's disk works, and it is not about to end.
#[utoipa::path(
    get, path = "/healthz/ready", tag = "health",
    responses(
        (status = 200, description = "Send requests", body = Healthy),
        (status = 503, description = "Send none, for the reason given", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ready(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    if app.is_stopping() {
        return Err(Problem::new(Code::ShuttingDown, "the server is about to end"));
    }
    require_worker(&app)?;
    app.store.active().await?;
    if let Some(trouble) = app.files.trouble() {
        tracing::warn!(trouble, "not ready: the cache's disk failed");
        return Err(Problem::new(Code::CacheUnavailable, "the disk of the file cache fails; the server's log says why"));
    }
    Ok(ok())
}

/// The script has been loaded for the first time.
#[utoipa::path(
    get, path = "/healthz/startup", tag = "health",
    responses(
        (status = 200, description = "The script has been loaded", body = Healthy),
        (status = 503, description = "Not yet, for the reason given", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn startup(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    if app.pool.functions().is_none() {
        require_worker(&app)?;
    }
    Ok(ok())
}

fn require_worker(app: &App) -> Result<(), Problem> {
    let status = app.pool.status();
    if status.ready > 0 {
        return Ok(());
    }
    Err(match (status.last_error, status.last_loss) {
        (Some(unavailable), _) => Problem::no_worker(unavailable),
        (None, Some(loss)) => Problem::new(Code::WorkerUnavailable, format!("the script is being loaded again: {loss}")),
        (None, None) => Problem::new(Code::WorkerUnavailable, "the script is being loaded"),
    })
}

fn ok() -> HttpResponse {
    HttpResponse::Ok().json(Healthy { status: "ok" })
}

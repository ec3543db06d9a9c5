//! `GET /openapi.json`: the interface, described for machines.

use actix_web::HttpResponse;
use utoipa::OpenApi;

/// The description, made from the routes themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Dunnage", description = "A model as a service: train it, feed it, ask it."),
    paths(
        super::submit::train, super::submit::input, super::output::output, super::status::status, super::jobs::list,
        super::job::get, super::job::cancel, super::job::logs, super::models::list, super::models::activate,
        super::health::live, super::health::ready, super::health::startup, super::metrics::metrics,
    ),
    tags(
        (name = "jobs", description = "Work in the background"),
        (name = "output", description = "Answers now"),
        (name = "models", description = "What has been trained"),
        (name = "health", description = "For operators"),
    )
)]
pub(crate) struct ApiDocument;

/// Answers with the description.
pub(crate) async fn document() -> HttpResponse {
    HttpResponse::Ok().json(ApiDocument::openapi())
}

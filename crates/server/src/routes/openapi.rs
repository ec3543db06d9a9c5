//! `GET /openapi.json`: the interface, described for machines; `GET /docs/`: the same for people, to read and to try.

use actix_web::HttpResponse;
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::access::Described;

/// The description, made from the routes themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Dunnage", description = "A model as a service: train it, feed it, ask it."),
    paths(
        super::submit::train, super::submit::input, super::output::output, super::status::status, super::jobs::list,
        super::job::get, super::job::cancel, super::job::logs, super::events::events, super::models::list, super::models::activate,
        super::health::live, super::health::ready, super::health::startup, super::metrics::metrics,
    ),
    modifiers(&Described),
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

/// The page. It comes from this binary alone; nothing is loaded from elsewhere.
pub(crate) fn page() -> SwaggerUi {
    SwaggerUi::new("/docs/{file:.*}").config(Config::from("/openapi.json"))
}

/// Leads to the page's own folder.
pub(crate) async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header(("location", "/docs/")).finish()
}

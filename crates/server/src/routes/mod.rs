//! One file a route, and the table of them.

mod events;
mod health;
mod job;
mod jobs;
mod metrics;
mod models;
mod openapi;
mod output;
pub(crate) mod status;
mod submit;

use actix_web::http::Method;
use actix_web::{Resource, Route, guard, web};
use dunnage_files::ReadyFile;
use dunnage_protocol::Functions;

#[cfg(test)]
pub(crate) use self::openapi::ApiDocument;
pub(crate) use self::openapi::{operations, problem};
pub(crate) use self::status::StatusBody;
use crate::app::App;
use crate::problem::{Code, Problem};

/// Adds every route, and answers for paths and methods there are none for.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(resource("/train", "POST").route(web::post().to(submit::train)))
        .service(resource("/input", "POST").route(web::post().to(submit::input)))
        .service(resource("/output", "POST").route(web::post().to(output::output)))
        .service(resource("/status", GET).route(get().to(status::status)))
        .service(resource("/jobs", GET).route(get().to(jobs::list)))
        .service(resource("/jobs/{id}", "GET, HEAD, DELETE").route(get().to(job::get)).route(web::delete().to(job::cancel)))
        .service(resource("/jobs/{id}/logs", GET).route(get().to(job::logs)))
        .service(resource("/jobs/{id}/events", GET).route(get().to(events::events)))
        .service(resource("/models", GET).route(get().to(models::list)))
        .service(resource("/models/{version}/activate", "POST").route(web::post().to(models::activate)))
        .service(resource("/healthz/live", GET).route(get().to(health::live)))
        .service(resource("/healthz/ready", GET).route(get().to(health::ready)))
        .service(resource("/healthz/startup", GET).route(get().to(health::startup)))
        .service(resource("/metrics", GET).route(get().to(metrics::metrics)))
        .service(resource("/openapi.json", GET).route(get().to(openapi::document)))
        .service(resource("/docs", GET).route(get().to(openapi::to_page)))
        .service(openapi::page())
        .default_service(web::to(unknown_path));
}

const GET: &str = "GET, HEAD";

/// A GET route that answers HEAD too; the framework leaves the body out.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path that answers OPTIONS, and says which methods it takes when another comes.
fn resource(path: &str, allowed: &'static str) -> Resource {
    let refuse = move |request: actix_web::HttpRequest| async move {
        if request.method() == Method::OPTIONS {
            return Ok(actix_web::HttpResponse::NoContent().insert_header(("allow", allowed)).finish());
        }
        Err(Problem::method_not_allowed(allowed))
    };
    web::resource(path.to_owned()).default_service(web::to(refuse))
}

async fn unknown_path() -> Result<actix_web::HttpResponse, Problem> {
    Err(Problem::unknown_path())
}

/// Refuses what could only fail because the script lacks a function, as far as that is known by now.
fn require_function(app: &App, name: &str, has: impl Fn(Functions) -> bool) -> Result<(), Problem> {
    match app.pool.functions() {
        Some(functions) if !has(functions) => {
            Err(Problem::new(Code::FunctionMissing, format!("the script has no function `{name}`; add one and start again")))
        }
        _ => Ok(()),
    }
}

/// A file as workers are told of it.
pub(crate) fn as_protocol_file(file: &ReadyFile) -> dunnage_protocol::File {
    dunnage_protocol::File { uri: file.address.to_string(), path: file.path.clone(), size: file.size, etag: file.etag.clone() }
}

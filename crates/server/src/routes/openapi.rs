//! `GET /openapi.json`: the interface, described for machines; `GET /docs/`: the same for people, to read and to try.

use actix_web::{HttpResponse, web};
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, PathItem, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::access::Described;
use crate::app::App;
use crate::problem::ProblemBody;

/// The description, made from the routes themselves: of a server that lets everybody in. [`Described`] adds tokens.
#[derive(OpenApi)]
#[openapi(
    info(title = "Dunnage", description = "A model as a service: train it, feed it, ask it."),
    paths(
        super::submit::train, super::submit::input, super::output::output, super::status::status, super::jobs::list,
        super::job::get, super::job::cancel, super::job::logs, super::events::events, super::models::list, super::models::activate,
        super::health::live, super::health::ready, super::health::startup, super::metrics::metrics,
    ),
    modifiers(&Failing, &Linked, &Optional),
    tags(
        (name = "jobs", description = "Work in the background"),
        (name = "output", description = "Answers now"),
        (name = "models", description = "What has been trained"),
        (name = "health", description = "For operators"),
    )
)]
pub(crate) struct ApiDocument;

/// Answers with the description of this very server.
pub(crate) async fn document(app: web::Data<App>) -> HttpResponse {
    let mut document = ApiDocument::openapi();
    if app.access.takes_tokens() {
        Described.modify(&mut document);
    }
    HttpResponse::Ok().json(document)
}

/// The page. It comes from this binary alone; nothing is loaded from elsewhere.
pub(crate) fn page() -> SwaggerUi {
    SwaggerUi::new("/docs/{file:.*}").config(Config::from("/openapi.json"))
}

/// Leads to the page's own folder.
pub(crate) async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header(("location", "/docs/")).finish()
}

/// Every operation of a path that there is.
pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// An answer that is a problem.
pub(crate) fn problem(description: &str) -> RefOr<Response> {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", body).build().into()
}

/// Adds what every operation can answer: that the request is not understood, and that the server cannot do its work.
struct Failing;

impl Modify for Failing {
    fn modify(&self, document: &mut Document) {
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            let responses = &mut operation.responses.responses;
            responses.entry("4XX".to_owned()).or_insert_with(|| problem("The request is wrong"));
            responses.entry("5XX".to_owned()).or_insert_with(|| problem("The server cannot answer"));
        }
    }
}

/// No header has to be sent. (As an `Option`, one could be sent as `null`.)
struct Optional;

impl Modify for Optional {
    fn modify(&self, document: &mut Document) {
        let parameters =
            document.paths.paths.values_mut().flat_map(operations).filter_map(|operation| operation.parameters.as_mut());
        for parameter in parameters.flatten() {
            if let RefOr::T(parameter) = parameter
                && parameter.parameter_in == ParameterIn::Header
            {
                parameter.required = Required::False;
            }
        }
    }
}

/// Adds what can be done with the id of a job that has been submitted.
struct Linked;

/// The operations that an id leads to, with the name of the parameter that takes it.
const LINKS: [(&str, &str); 5] =
    [("status", "jobId"), ("get_job", "id"), ("job_logs", "id"), ("job_events", "id"), ("cancel_job", "id")];

impl Modify for Linked {
    fn modify(&self, document: &mut Document) {
        let submits = document.paths.paths.values_mut().flat_map(operations);
        for response in submits.filter_map(|operation| operation.responses.responses.get_mut("202")) {
            let RefOr::T(response) = response else { continue };
            for (operation, parameter) in LINKS {
                let link = Link::builder().operation_id(operation).parameter(parameter, "$response.body#/jobId").build();
                response.links.insert(operation.to_owned(), link.into());
            }
        }
    }
}

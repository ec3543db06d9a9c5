//! What happens around every request: its id, its log line, its metrics, and the body of its error.

use std::borrow::Cow;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::access::Sight;
use crate::app::App;
use crate::http::target;
use crate::problem::{Code, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A client's own id is taken over if it is no longer than this.
const MAX_ID_BYTES: usize = 64;

/// The route that is asked for most.
const OUTPUT: &str = "/output";

/// The id of the request being answered.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl FromRequest for RequestId {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        std::future::ready(Ok(id_of(request)))
    }
}

/// Wraps every route.
pub(crate) async fn around(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begin = Instant::now();
    // Also when the client hangs up and nobody asks for the answer any more.
    let _in_flight = request.app_data::<web::Data<App>>().map(|app| app.metrics.begin_request());
    let id = client_id(request.request()).unwrap_or_else(|| Uuid::new_v4().to_string());
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().clone());
    // What is shared with other requests is behind locks, and these are taken whether a holder has panicked or not.
    let answered = AssertUnwindSafe(answer(request, next, &id, begin)).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        tracing::error!(request_id = id, %method, path = path.path(), status = 500, "a request was not answered because of a panic");
        Err(Error::from(Broken { path, id }))
    })
}

async fn answer(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    id: &str,
    begin: Instant,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = match answered_at_once(&request) {
        Some(response) => request.into_response(response),
        // Handlers' errors are answers by now; an error here is the framework's own.
        None => next.call(request).await?.map_into_boxed_body(),
    };
    Ok(observe(with_problem_body(response, id), id, begin))
}

/// A request whose answering panicked. It is gone, and with it what the framework knew of it.
#[derive(Debug)]
struct Broken {
    path: Uri,
    id: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request was not answered because of a panic")
    }
}

impl ResponseError for Broken {
    fn error_response(&self) -> HttpResponse {
        let problem = Problem::new(Code::Internal, "the server has made a mistake; its log says where");
        let mut response = problem.respond_to(self.path.path(), &self.id, Sight::Surface);
        if let Ok(value) = HeaderValue::from_str(&self.id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
}

/// The answer to a request that does not get to its handler.
fn answered_at_once(request: &ServiceRequest) -> Option<HttpResponse> {
    let Some(app) = request.app_data::<web::Data<App>>() else {
        return Some(Problem::new(Code::Internal, "the server is not set up").error_response());
    };
    if let Err(problem) = target::check(request.request(), app) {
        return Some(problem.error_response());
    }
    if let Some(response) = app.access.origins.preflight(request.request()) {
        return Some(response);
    }
    match app.access.admit(request.request()) {
        Err(problem) => Some(problem.error_response()),
        Ok(sight) => {
            if sight != app.access.usual_sight() {
                request.extensions_mut().insert(sight);
            }
            target::is_about_server(request.request()).then(target::about_server)
        }
    }
}

/// Gives errors their body, ours and the framework's own alike.
fn with_problem_body(response: ServiceResponse, id: &str) -> ServiceResponse {
    let problem = response.response().extensions().get::<Problem>().cloned();
    match problem.or_else(|| foreign_problem(&response)) {
        Some(problem) => {
            let mut body = problem.respond(response.request(), id, Sight::of(response.request()));
            body.extensions_mut().insert(problem);
            response.into_response(body)
        }
        None => response,
    }
}

/// An error that the framework made, in our words.
fn foreign_problem(response: &ServiceResponse) -> Option<Problem> {
    let status = response.status();
    let is_ours = response.headers().get("content-type").is_some();
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let code = match status {
        StatusCode::NOT_FOUND => Code::UnknownPath,
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        status if status.is_client_error() => Code::BodyMalformed,
        _ => Code::Internal,
    };
    Some(Problem::new(code, "the request could not be dealt with"))
}

fn client_id(request: &HttpRequest) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let harmless = !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic());
    harmless.then(|| id.to_owned())
}

fn id_of(request: &HttpRequest) -> RequestId {
    request.extensions().get::<RequestId>().cloned().unwrap_or_else(|| RequestId(Uuid::new_v4().to_string()))
}

/// The route that a request has taken, as the metrics know it.
fn route_of(request: &HttpRequest) -> Cow<'static, str> {
    match request.path() {
        // The pattern is looked for among all routes, and this one is asked for most.
        OUTPUT => Cow::Borrowed(OUTPUT),
        _ => request.match_pattern().map_or(Cow::Borrowed("unknown"), Cow::Owned),
    }
}

/// Adds the id to the answer, and the answer to the log and the metrics.
fn observe(mut response: ServiceResponse, id: &str, begin: Instant) -> ServiceResponse {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let app = response.request().app_data::<web::Data<App>>();
    let shared = app.map(|app| app.access.origins.shared(response.request().headers())).unwrap_or_default();
    shared.into_iter().for_each(|(name, value)| response.headers_mut().append(name, value));
    let request = response.request();
    let route = route_of(request);
    let (method, status, duration) = (request.method().as_str(), response.status().as_u16(), begin.elapsed());
    if let Some(app) = request.app_data::<web::Data<App>>() {
        app.metrics.observe_request(&route, method, status, duration);
    }
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    // Whoever asks after our health hears the answer itself, every few seconds.
    let is_probe = route.starts_with("/healthz/");
    let problem = response.response().extensions().get::<Problem>().cloned();
    let (code, detail) = problem.as_ref().map(|problem| (problem.code().as_str(), problem.detail())).unzip();
    // The pool tells of an overload; a line for each refusal would only add to it.
    let is_expected = is_probe || problem.as_ref().is_some_and(Problem::is_refusal_under_load);
    match status {
        500.. if !is_expected => {
            tracing::warn!(request_id = id, method, path = request.path(), status, duration_us, code, detail, "request failed");
        }
        _ => tracing::debug!(request_id = id, method, path = request.path(), status, duration_us, code, "request"),
    }
    response
}

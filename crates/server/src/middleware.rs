//! What happens around every request: its id, its log line, its metrics, and the body of its error.

use std::net::IpAddr;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, web};
use uuid::Uuid;

use crate::app::App;
use crate::problem::{Code, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A client's own id is taken over if it is no longer than this.
const MAX_ID_BYTES: usize = 64;

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
    let id = client_id(request.request()).unwrap_or_else(|| Uuid::new_v4().to_string());
    request.extensions_mut().insert(RequestId(id.clone()));
    let response = match refuse_foreign(request.request()).or_else(|| refuse_rebound(request.request())) {
        Some(problem) => {
            let response = problem.respond(request.request(), &id);
            request.into_response(response)
        }
        // Handlers' errors are answers by now; an error here is the framework's own.
        None => with_problem_body(next.call(request).await?.map_into_boxed_body(), &id),
    };
    Ok(observe(response, &id, begin))
}

/// Gives errors their body, ours and the framework's own alike.
fn with_problem_body(response: ServiceResponse, id: &str) -> ServiceResponse {
    let problem = response.response().extensions().get::<Problem>().cloned();
    match problem.or_else(|| foreign_problem(&response)) {
        Some(problem) => {
            let mut body = problem.respond(response.request(), id);
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

/// A page of another site must not be able to make a browser on this machine talk to us.
fn refuse_foreign(request: &HttpRequest) -> Option<Problem> {
    let cross_site = request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let foreign_origin = header("origin").is_some_and(|origin| {
        let origin_host = origin.split_once("://").map_or(origin, |(_, host)| host);
        header("host") != Some(origin_host)
    });
    (cross_site || foreign_origin).then(|| Problem::new(Code::HostRefused, "requests from pages of other sites are refused"))
}

/// While we listen on loopback, a page whose own name leads to this machine must not pass for one of ours: the name by which
/// we are called has to be a loopback one, or one we have been told.
fn refuse_rebound(request: &HttpRequest) -> Option<Problem> {
    let http = &request.app_data::<web::Data<App>>()?.config.http;
    let called = request.headers().get("host")?.to_str().ok()?;
    let name = host_name(called);
    let is_loopback = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_known =
        !http.host.is_loopback() || is_loopback || http.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    let refusal = || Problem::new(Code::HostRefused, "this server is not known by that name here; allow it with `--allowed-host`");
    (!is_known).then(refusal)
}

/// A `Host` header without its port, and an IPv6 address without its brackets.
fn host_name(called: &str) -> &str {
    match called.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => called.split(':').next().unwrap_or_default(),
    }
}

fn client_id(request: &HttpRequest) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let harmless = !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic());
    harmless.then(|| id.to_owned())
}

fn id_of(request: &HttpRequest) -> RequestId {
    request.extensions().get::<RequestId>().cloned().unwrap_or_else(|| RequestId(Uuid::new_v4().to_string()))
}

/// Adds the id to the answer, and the answer to the log and the metrics.
fn observe(mut response: ServiceResponse, id: &str, begin: Instant) -> ServiceResponse {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let request = response.request();
    let route = request.match_pattern().unwrap_or_else(|| "unknown".to_owned());
    let (method, status, duration) = (request.method().as_str(), response.status().as_u16(), begin.elapsed());
    if let Some(app) = request.app_data::<web::Data<App>>() {
        app.metrics.observe_request(&route, method, status, duration);
    }
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    // Whoever asks after our health hears the answer itself, every few seconds.
    let is_probe = route.starts_with("/healthz/");
    let problem = response.response().extensions().get::<Problem>().cloned();
    let (code, detail) = problem.as_ref().map(|problem| (problem.code().as_str(), problem.detail())).unzip();
    match status {
        500.. if !is_probe => {
            tracing::warn!(request_id = id, method, path = request.path(), status, duration_us, code, detail, "request failed");
        }
        _ => tracing::debug!(request_id = id, method, path = request.path(), status, duration_us, code, "request"),
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (called, name) in
            [("localhost:80", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:8080", "::1"), ("evil.test:1", "evil.test")]
        {
            assert_eq!(host_name(called), name);
        }
    }
}

//! What a request asks for, before anybody asks who may.

use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::http::Method;

use super::exchange::Exchange;
use super::refusal;
use crate::app::App;
use crate::problem::Problem;

/// What paths that are not one of ours take.
const ANY_METHOD: &str = "GET, HEAD, POST, DELETE, OPTIONS";

/// Refuses what is too long to be looked at, what there is no room for, and methods that no server like this one has; the connection ends
/// with the answer.
pub(crate) fn check(request: &HttpRequest, app: &App) -> Result<(), Problem> {
    let exchange = request.conn_data::<Rc<Exchange>>();
    let checked = fits(request, app, exchange.is_some_and(|exchange| exchange.is_for_probes()));
    if checked.is_err() {
        exchange.into_iter().for_each(|exchange| exchange.end());
    }
    checked
}

fn fits(request: &HttpRequest, app: &App, is_for_probes: bool) -> Result<(), Problem> {
    let limits = &app.config.http.connections;
    if is_for_probes && !request.path().starts_with("/healthz/") {
        return Err(refusal::no_room(app.admission.max()));
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > limits.max_target_bytes) {
        return Err(refusal::target_too_long(limits.max_target_bytes));
    }
    if head_bytes(request) > limits.max_head_bytes {
        return Err(refusal::head_too_large(limits.max_head_bytes));
    }
    // It asks for a tunnel to somewhere else, and names no path.
    if request.method() == Method::CONNECT {
        return Err(Problem::method_not_allowed(ANY_METHOD));
    }
    Ok(())
}

/// Whether the methods of the server as a whole are asked for, and none of a path.
pub(crate) fn is_about_server(request: &HttpRequest) -> bool {
    request.method() == Method::OPTIONS && request.path() == "*"
}

/// The answer to that.
pub(crate) fn about_server() -> actix_web::HttpResponse {
    actix_web::HttpResponse::NoContent().insert_header(("allow", ANY_METHOD)).finish()
}

/// As it came, but for spaces that do not matter.
fn head_bytes(request: &HttpRequest) -> usize {
    let line = request.method().as_str().len() + request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + "  HTTP/1.1\r\n\r\n".len() + headers.sum::<usize>()
}

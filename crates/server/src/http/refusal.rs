//! What is said to a client whose request was not read.

use actix_web::http::StatusCode;
use uuid::Uuid;

use crate::app::App;
use crate::config::ConnectionConfig;
use crate::problem::{Code, Problem};

/// No answer that the library makes by itself is longer.
const LONGEST_BY_ITSELF: usize = 256;

/// An answer of the library's own, without a body, at the end of what is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it begins.
    pub(super) begin: usize,
    pub(super) status: u16,
}

/// Finds the answer with which the library ends a connection whose next request it cannot read. Ours have a body or an id.
pub(super) fn find(written: &[u8]) -> Option<Found> {
    // What is written otherwise ends with a body, but for the few answers that have none.
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = written.len().saturating_sub(LONGEST_BY_ITSELF);
    let begin = from + memchr::memmem::rfind(&written[from..], b"HTTP/1.")?;
    let answer = std::str::from_utf8(&written[begin..]).ok()?;
    let (status_line, headers) = answer.strip_suffix("\r\n\r\n")?.split_once("\r\n")?;
    let status = status_line.get("HTTP/1.1 ".len()..)?.get(..3)?.parse().ok()?;
    is_bare(status, headers).then_some(Found { begin, status })
}

/// Whether an answer with these headers was made without us.
fn is_bare(status: u16, headers: &str) -> bool {
    let is_known = |line: &str| ["content-length: 0", "connection: ", "date: "].iter().any(|known| line.starts_with(known));
    matches!(status, 400 | 431 | 500) && headers.contains("content-length: 0") && headers.split("\r\n").all(is_known)
}

/// What the library's own answer meant, in our words. The first line of the request had so many bytes, or more.
pub(super) fn meant(status: u16, first_line: u64, app: &App) -> Problem {
    match status {
        400 | 431 if first_line > ConnectionConfig::LONGEST_TARGET as u64 => {
            target_too_long(app.config.http.connections.max_target_bytes)
        }
        400 => malformed("it is no HTTP/1.1, or leaves open where it ends"),
        431 => head_too_large(app.config.http.connections.max_head_bytes),
        _ => Problem::new(Code::Internal, "the server failed; its log says why"),
    }
}

/// The request's head cannot be read.
pub(super) fn malformed(why: &str) -> Problem {
    Problem::new(Code::RequestMalformed, format!("the head of the request cannot be read: {why}"))
}

/// The request's head is longer than it may be.
pub(super) fn head_too_large(limit: usize) -> Problem {
    Problem::new(Code::HeadTooLarge, format!("the head of a request may have {limit} bytes (`--max-head`) and 96 headers"))
}

/// The request's target is longer than it may be.
pub(super) fn target_too_long(limit: usize) -> Problem {
    Problem::new(Code::TargetTooLong, format!("a path with its query may have {limit} bytes (`--max-target`)"))
}

/// There is no room for this connection.
pub(crate) fn no_room(max: usize) -> Problem {
    let detail = format!("{max} connections are open already (`--max-connections`); try again in a moment");
    Problem::new(Code::TooManyConnections, detail)
}

/// The whole answer, after which the connection is closed. Counts it and logs it as any other.
pub(super) fn answer(problem: &Problem, app: &App) -> Vec<u8> {
    let (code, status, _) = problem.code().parts();
    let id = Uuid::new_v4().to_string();
    app.metrics.observe_unread(status);
    tracing::debug!(request_id = id, status, code, detail = problem.detail(), "request refused before it was read");
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let retry_after = problem.retry_after_secs().map(|wait| format!("retry-after: {wait}\r\n")).unwrap_or_default();
    let body = problem.body(None, &id, app.access.usual_sight());
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         date: {date}\r\n{retry_after}x-request-id: {id}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str =
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: Thu, 26 Nov 2026 04:31:27 GMT\r\n\r\n";

    #[test]
    fn an_answer_of_the_librarys_own_is_found_alone_and_behind_others() {
        assert_eq!(find(OWN.as_bytes()), Some(Found { begin: 0, status: 400 }));
        let behind = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{OWN}");
        assert_eq!(find(behind.as_bytes()), Some(Found { begin: behind.len() - OWN.len(), status: 400 }));
        let too_large = OWN.replace("400 Bad Request", "431 Request Header Fields Too Large");
        assert_eq!(find(too_large.as_bytes()), Some(Found { begin: 0, status: 431 }));
    }

    #[test]
    fn our_own_answers_are_left_alone() {
        for ours in [
            "HTTP/1.1 204 No Content\r\nallow: GET\r\nx-request-id: a\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: a\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "0\r\n\r\n",
            "\r\n\r\n",
            "{\"a\": \"HTTP/1.1 400\"}",
        ] {
            assert_eq!(find(ours.as_bytes()), None, "{ours}");
        }
    }
}

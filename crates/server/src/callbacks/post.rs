//! One delivery: a signed POST, and what its answer means.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::header::RETRY_AFTER;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Error};

use super::message::Message;
use super::resolver::{Guarded, Refused};
use super::signature::{self, CallbackSecret};
use crate::config::CallbackConfig;
use crate::problem::chain;

/// The longest head of an answer; the answer's body is not read at all.
const MAX_HEAD_BYTES: usize = 16 << 10;
const USER_AGENT: &str = concat!("dunnage/", env!("CARGO_PKG_VERSION"));

/// Posts messages.
pub(super) struct Post {
    agent: Agent,
    secrets: Vec<CallbackSecret>,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The receiver has the message.
    Taken,
    /// The receiver wants no more of them.
    Gone {
        /// What is told to clients.
        error: String,
    },
    /// It may go well another time.
    Failed {
        /// What is told to clients.
        error: String,
        /// How long the receiver asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl Post {
    pub(super) fn new(config: &CallbackConfig) -> Self {
        let settings = Agent::config_builder()
            .https_only(!config.allow_private)
            .http_status_as_error(false)
            // A redirect could lead anywhere, and would take a message to whom it was not signed for.
            .max_redirects(0)
            // One from the environment would connect on our behalf, past the check of addresses.
            .proxy(None)
            // A callback is rare; the next one had better not meet a connection that has gone stale.
            .max_idle_connections(0)
            .max_response_header_size(MAX_HEAD_BYTES)
            .timeout_global(Some(config.timeout))
            .user_agent(USER_AGENT)
            .build();
        let agent = Agent::with_parts(settings, DefaultConnector::default(), Guarded::new(config.allow_private));
        Self { agent, secrets: config.secrets.clone() }
    }

    /// Posts a message, and blocks until it is answered or the time is up.
    pub(super) fn send(&self, url: &str, message: &Message) -> Reply {
        let Message { id, body } = message;
        let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .agent
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now_secs.to_string())
            .header("webhook-signature", signature::signatures(&self.secrets, id, now_secs, body));
        match request.send(body) {
            Ok(response) => Reply::from(&response),
            Err(error) => Reply::failed(sentence(&error)),
        }
    }
}

impl Reply {
    /// A failure of which no more is known.
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), retry_after: None }
    }
}

impl From<&Response<Body>> for Reply {
    fn from(response: &Response<Body>) -> Self {
        let status = response.status();
        let error = format!("it answered {}", status.as_u16());
        match status {
            status if status.is_success() => Self::Taken,
            StatusCode::GONE => Self::Gone { error },
            status if status.is_redirection() => Self::failed(format!("{error}, and redirects are not followed")),
            _ => Self::Failed { error, retry_after: retry_after(response.headers(), SystemTime::now()) },
        }
    }
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let from_date = || httpdate::parse_http_date(text).ok()?.duration_since(now).ok();
    text.parse().ok().map(Duration::from_secs).or_else(from_date)
}

/// Why a message could not be delivered, for clients. The log has the rest, which may tell of networks that are not theirs.
fn sentence(error: &Error) -> String {
    match error {
        Error::Other(other) if other.is::<Refused>() => return other.to_string(),
        Error::RequireHttpsOnly(_) => return "plain `http` is not allowed".to_owned(),
        Error::Timeout(_) => return "it did not answer in time".to_owned(),
        Error::Protocol(_) | Error::LargeResponseHeader(..) => return "it answered with something else than HTTP".to_owned(),
        _ => {}
    }
    tracing::debug!(error = %chain(error), "a receiver cannot be reached");
    "it could not be reached".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> Reply {
        Reply::from(&Response::builder().status(status).header("retry-after", "7").body(Body::builder().data("")).unwrap())
    }

    #[test]
    fn an_answer_is_judged_by_its_status() {
        for status in [200, 202, 204] {
            assert_eq!(reply(status), Reply::Taken);
        }
        assert_eq!(reply(410), Reply::Gone { error: "it answered 410".to_owned() });
        assert_eq!(reply(302), Reply::failed("it answered 302, and redirects are not followed"));
        for status in [400, 404, 429, 500, 503] {
            let error = format!("it answered {status}");
            assert_eq!(reply(status), Reply::Failed { error, retry_after: Some(Duration::from_secs(7)) });
        }
    }

    #[test]
    fn a_receiver_asks_for_time_in_seconds_or_by_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let asked = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:38 GMT"), Some(Duration::from_secs(1)));
        assert_eq!((asked("Sun, 06 Nov 1994 08:49:36 GMT"), asked("soon"), asked("-1")), (None, None, None));
    }
}

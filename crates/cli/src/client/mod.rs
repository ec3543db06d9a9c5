//! Speaks to a running service: [`Client`] does the HTTP, [`answer`] holds the shapes of what comes back, [`request`] makes the
//! bodies, and [`follow`] waits for jobs.

pub(crate) mod answer;
mod error;
pub(crate) mod follow;
mod interrupt;
mod multipart;
pub(crate) mod request;
pub(crate) mod show;

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use ureq::http::{Request, Response};
use ureq::{Agent, AsSendBody, Body, RequestExt, SendBody};

pub(crate) use error::ClientError;

/// How long a connection may take; the answer itself may take as long as the script does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the service is.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// Where the service answers
    #[arg(long, env = "DUNNAGE_URL", default_value = "http://127.0.0.1:8080", value_parser = base_url, help_heading = "Connection")]
    url: String,
}

impl Connection {
    /// A client of the service. Nothing is sent yet.
    pub(crate) fn client(&self) -> Client {
        self.client_within(None)
    }

    /// A client that gives each request up after this time.
    pub(crate) fn client_within(&self, timeout: Option<Duration>) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(timeout)
            .user_agent(concat!("dunnage/", env!("CARGO_PKG_VERSION")));
        // A proxy could not reach what only this machine can.
        let config = if is_loopback(&self.url) { config.proxy(None) } else { config };
        Client { agent: config.build().new_agent(), base: self.url.clone() }
    }
}

/// A client of one service.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
}

/// An answer with a status of success.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Which version of the model answered, where one did.
    pub(crate) version: Option<String>,
    /// The body, as it came.
    pub(crate) text: String,
    url: String,
}

impl Answer {
    /// The body as what it should be.
    ///
    /// # Errors
    ///
    /// [`ClientError::Malformed`] if it is something else, as when the URL leads to another kind of server.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(&self.text).map_err(|source| ClientError::Malformed { url: self.url.clone(), source })
    }
}

impl Client {
    /// `GET path`, `path` with its query.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send("GET", path, |request| request, ())
    }

    /// `DELETE path`.
    pub(crate) fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.send("DELETE", path, |request| request, ())
    }

    /// `POST path` with what a script is to work on.
    pub(crate) fn post(&self, path: &str, body: request::Body, idempotency_key: Option<&str>) -> Result<Answer, ClientError> {
        let headers = |request: RequestBuilder| {
            let request = request.header("content-type", &body.content_type).header("content-length", body.length);
            idempotency_key.into_iter().fold(request, |request, key| request.header("idempotency-key", key))
        };
        self.send("POST", path, headers, SendBody::from_owned_reader(body.reader))
    }

    /// `POST path` without a body.
    pub(crate) fn post_empty(&self, path: &str) -> Result<Answer, ClientError> {
        self.send("POST", path, |request| request.header("content-length", 0), ())
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: impl FnOnce(RequestBuilder) -> RequestBuilder,
        body: impl AsSendBody + 'static,
    ) -> Result<Answer, ClientError> {
        let url = format!("{}{path}", self.base);
        let sent = headers(Request::builder().method(method).uri(&url))
            .body(body)
            .map_err(ureq::Error::from)
            .and_then(|request| request.with_agent(&self.agent).run());
        let answered = sent.and_then(|response| read(response, url.clone()));
        match answered {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(answer),
            Ok(answer) => Err(ClientError::refused(answer.status, &answer.text)),
            Err(error) => Err(ClientError::unanswered(method, &self.base, url, error)),
        }
    }
}

type RequestBuilder = ureq::http::request::Builder;

fn read(mut response: Response<Body>, url: String) -> Result<Answer, ureq::Error> {
    let version = response.headers().get("model-version").and_then(|value| value.to_str().ok()).map(str::to_owned);
    // A vector may be long, and this is the only thing we do.
    let text = response.body_mut().with_config().limit(u64::MAX).lossy_utf8(true).read_to_string()?;
    Ok(Answer { status: response.status().as_u16(), version, text, url })
}

fn base_url(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    let host = trimmed.strip_prefix("http://").or_else(|| trimmed.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && trimmed.parse::<ureq::http::Uri>().is_ok() => Ok(trimmed.to_owned()),
        _ => Err("a URL is written like http://127.0.0.1:8080 or https://models.example/gait".to_owned()),
    }
}

fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<ureq::http::Uri>().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The job's path.
pub(crate) fn job_path(id: dunnage_types::JobId) -> String {
    format!("/jobs/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_last_slash() {
        assert_eq!(base_url("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(base_url("https://models.example/gait/"), Ok("https://models.example/gait".to_owned()));
    }

    #[test]
    fn other_texts_are_no_urls() {
        for text in ["", "127.0.0.1:8080", "http://", "ftp://a", "http://a b"] {
            assert!(base_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_has_three_spellings() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }
}

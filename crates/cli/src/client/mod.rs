//! Speaks to a running service: [`Client`] does the HTTP, [`answer`] holds the shapes of what comes back, [`request`] makes the
//! bodies, and [`follow`] waits for jobs.

pub(crate) mod answer;
mod connection;
mod error;
pub(crate) mod follow;
mod interrupt;
mod multipart;
pub(crate) mod request;
pub(crate) mod show;

use std::fmt;

use serde::de::DeserializeOwned;
use ureq::http::{Request, Response};
use ureq::{Agent, AsSendBody, Body, RequestExt, SendBody};

pub(crate) use connection::{Connection, unverified};
pub(crate) use error::ClientError;

/// A client of one service.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    /// What the header of that name says, a secret.
    authorization: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
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
        let request = Request::builder().method(method).uri(&url);
        let request = self.authorization.iter().fold(request, |request, text| request.header("authorization", text));
        let sent = headers(request).body(body).map_err(ureq::Error::from).and_then(|request| request.with_agent(&self.agent).run());
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

/// The job's path.
pub(crate) fn job_path(id: dunnage_types::JobId) -> String {
    format!("/jobs/{id}")
}

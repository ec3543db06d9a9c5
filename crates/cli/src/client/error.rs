//! Why a request had no good answer.

use std::fmt;
use std::io;

use serde::Deserialize;

/// Why a request had no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens there.
    #[error("nothing answers at {base}; start it with `dunnage serve`")]
    NobodyThere {
        /// The service's URL.
        base: String,
    },
    /// The request did not get there, or its answer did not come back.
    #[error("{method} {url} was not answered")]
    Unanswered {
        /// The request's method.
        method: String,
        /// Its full URL.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// The service answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The answer is not what the service's API promises.
    #[error("the answer of {url} is not that of a Dunnage service")]
    Malformed {
        /// The request's full URL.
        url: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl ClientError {
    pub(super) fn unanswered(method: &str, base: &str, url: String, error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Self::NobodyThere { base: base.to_owned() }
            }
            error => Self::Unanswered { method: method.to_owned(), url, source: Box::new(error) },
        }
    }

    pub(super) fn refused(status: u16, body: &str) -> Self {
        let problem = serde_json::from_str::<Problem>(body).unwrap_or_else(|_| Problem::foreign(body));
        Self::Refused(Box::new(Refusal { status, problem }))
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::NobodyThere { .. } | Self::Unanswered { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status, 408 | 429 | 502 | 503 | 504),
            Self::Malformed { .. } => false,
        }
    }
}

/// An answer with a status of failure.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    problem: Problem,
}

/// `application/problem+json`, as RFC 9457 has it and with our own additions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
}

impl Problem {
    /// What somebody else answered, such as a proxy in between.
    fn foreign(body: &str) -> Self {
        let beginning: String = body.lines().next().unwrap_or_default().chars().take(200).collect();
        Self { detail: (!beginning.is_empty()).then_some(beginning), ..Self::default() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { title, detail, code, request_id } = &self.problem;
        formatter.write_str(title.as_deref().unwrap_or("the service refused the request"))?;
        if let Some(detail) = detail {
            write!(formatter, ": {detail}")?;
        }
        write!(formatter, " (status {}", self.status)?;
        if let Some(code) = code {
            write!(formatter, ", code `{code}`")?;
        }
        if let Some(id) = request_id {
            write!(formatter, ", request {id}")?;
        }
        formatter.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_all_that_the_service_said() {
        let body = r#"{"type":"about:blank","title":"File not found","status":422,"detail":"there is no `s3://b/k`",
                       "code":"file_missing","instance":"/train","requestId":"r-17"}"#;
        let text = ClientError::refused(422, body).to_string();
        assert_eq!(text, "File not found: there is no `s3://b/k` (status 422, code `file_missing`, request r-17)");
    }

    #[test]
    fn a_refusal_of_somebody_else_is_told_by_its_first_line() {
        let text = ClientError::refused(502, "Bad Gateway\nnginx").to_string();
        assert_eq!(text, "the service refused the request: Bad Gateway (status 502)");
        assert_eq!(ClientError::refused(404, "").to_string(), "the service refused the request (status 404)");
    }

    #[test]
    fn a_busy_service_is_worth_another_try() {
        assert!(ClientError::refused(408, "").is_temporary());
        assert!(ClientError::refused(503, "").is_temporary());
        assert!(!ClientError::refused(404, "").is_temporary());
    }
}

//! What clients were told and what the database noted, and what must hold between the two.
//!
//! A [`History`] is recorded by a test that makes things go wrong; [`violations`] says what was promised and does not hold. The
//! promises have the numbers J1 to J9.

mod promises;
#[cfg(test)]
mod tests;

pub use promises::{Promise, Violation, violations};

use std::fmt;

use serde_json::Value;

use crate::audit::{Change, Effect, Row};
use crate::http::Response;

/// Everything there is to know about one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every call that submitted a job, repeated ones included.
    pub submissions: Vec<Submission>,
    /// Every call that asked for an output.
    pub outputs: Vec<Output>,
    /// What the database noted, for each job in order.
    pub changes: Vec<Change>,
    /// The jobs there were in the end.
    pub jobs: Vec<Row>,
    /// What the scripts kept in `ctx.state`: under `begin/<id>` and `end/<id>` the tag of the attempt that wrote it.
    pub effects: Vec<Effect>,
    /// The processes that were left after the end.
    pub left: Vec<String>,
}

/// A job submitted under an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The key.
    pub key: String,
    /// What the client was told.
    pub outcome: Outcome,
}

/// What a client knows after a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with a job's id.
    Accepted(String),
    /// It was answered that this call makes no job.
    Refused(Refusal),
    /// It was answered that the server failed, which leaves it open whether there is a job.
    Failed(Refusal),
    /// There was no whole answer: there may be a job or not.
    Unknown,
}

/// What was answered instead of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The problem's code. Answers that come before the service has seen the request have none.
    pub code: Option<String>,
}

impl Refusal {
    /// What an answer says that is none of those hoped for.
    #[must_use]
    pub fn of(response: &Response) -> Self {
        let body = serde_json::from_str::<Value>(response.text()).unwrap_or_default();
        Self { status: response.status, code: body["code"].as_str().map(str::to_owned) }
    }

    /// Whether the very same request may be accepted later: it came too slowly, or too many came at once.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self.status, 408 | 429)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(formatter, "{} `{code}`", self.status),
            None => write!(formatter, "{} without a code", self.status),
        }
    }
}

/// An output that was asked for and answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// What only this call sent.
    pub nonce: f64,
    /// What it was answered.
    pub answer: f64,
}

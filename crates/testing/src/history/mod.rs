//! What clients were told and what the database noted, and what must hold between the two.
//!
//! A [`History`] is recorded by a test that makes things go wrong; [`violations`] says what was promised and does not hold. The
//! promises have the numbers J1 to J9.

mod promises;
#[cfg(test)]
mod tests;

pub use promises::{Promise, Violation, violations};

use crate::audit::{Change, Effect, Row};

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
    /// It was answered that there will be no job, with this status.
    Refused(u16),
    /// There was no whole answer, or one that leaves it open: there may be a job or not.
    Unknown,
}

/// An output that was asked for and answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// What only this call sent.
    pub nonce: f64,
    /// What it was answered.
    pub answer: f64,
}

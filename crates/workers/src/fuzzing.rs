//! A door for the fuzzer (`crates/fuzzing`) to what reads workers' answers. No part of the interface.

use bytes::Bytes;
use dunnage_protocol::{CallError, Outputs};
use dunnage_types::Vector;

use crate::answer;

/// Splits a payload into the vectors that an answer announces.
///
/// # Errors
///
/// What is wrong with the answer as a whole; the worker is then of no further use.
pub fn vectors(outputs: Outputs, payload: Bytes) -> Result<Vec<Result<Vector<Bytes>, CallError>>, String> {
    answer::vectors(outputs, payload).map_err(|exit| exit.to_string())
}

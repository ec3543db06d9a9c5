//! Results in S3: what a job whose `OutputUri` was given returned is written there before the job is done.
//!
//! [`accept`] is for whoever submits the job and decides which object it will be; [`write()`] is for the attempt that has a result.

mod document;
#[cfg(test)]
mod given;
mod target;
mod write;

pub(crate) use target::accept;
pub(crate) use write::{PATIENCE, Unwritten, write};

//! Counts the instructions of what every request passes through, and holds them to the limits in `bench/guard/limits.toml`.
//!
//! A count is what Valgrind's callgrind counts for so many rounds, less what it counts for half as many, divided by the rounds between:
//! starting and stopping cancel out. A count says nothing of time that is waited, but unlike time it is nearly the same in every
//! run, so that a growth of a few hundredths is seen. Begin reading at [`subject`], the list of what is counted.

mod callgrind;
mod client;
pub mod codec;
mod limits;
mod object;
mod place;
mod pool;
mod report;
mod service;
pub mod subject;
mod tools;

pub use limits::{Limits, Verdict};
pub use place::Place;
pub use report::Report;
pub use tools::Tools;

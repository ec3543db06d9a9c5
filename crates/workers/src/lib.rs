//! Starts, feeds, watches and ends worker processes.
//!
//! A [`Worker`] is one child process that has loaded the script and takes one call at a time. A [`Pool`] keeps a number of them
//! ready for `/output`, replaces those that die, and swaps all of them for another version without losing a request.
//! What a script asks of the server while it runs is answered by a [`Host`].

mod answer;
mod batch;
mod connection;
mod conversation;
mod exit;
mod generation;
mod host;
mod interrupt;
mod launch;
mod lines;
mod pool;
mod process;
mod queue;
mod shared;
mod slot;
mod sys;
mod worker;

pub use batch::Hold;
pub use exit::{Exit, Lost};
pub use generation::Standby;
pub use host::{Host, Line};
pub use interrupt::Interrupt;
pub use launch::{Launcher, Runtime, RuntimeError};
pub use pool::{JobLost, OutputError, Pool, PoolStatus, Served};
pub use shared::PoolSettings;
pub use worker::{StartError, Started, Worker};

//! Starts, feeds, watches and ends worker processes.
//!
//! A [`Worker`] is one child process that has loaded the script and runs one call at a time. A [`Pool`] keeps a number of them
//! ready for `/output`, replaces those that die, and swaps all of them for another version without losing a request.
//! What a script asks of the server while it runs is answered by a [`Host`].

mod admission;
mod allowance;
mod answer;
mod batch;
mod busy;
mod calls;
mod connection;
mod conversation;
mod descriptors;
mod device;
mod ended;
mod exit;
mod family;
#[doc(hidden)]
pub mod fuzzing;
mod generation;
mod guard;
mod host;
mod interrupt;
mod kin;
mod launch;
mod lines;
mod losses;
mod oom;
mod pace;
mod pool;
mod process;
mod program;
mod queue;
mod said;
mod scratch;
mod shared;
mod shared_memory;
mod shift;
mod slot;
mod successor;
mod sys;
mod wear;
mod worker;

pub use admission::{Refusal, RefusalCause};
pub use batch::Hold;
pub use exit::{Exit, Lost, Reason};
pub use generation::{Standby, Unavailable};
pub use guard::stand_guard;
pub use host::{Host, Line};
pub use interrupt::Interrupt;
pub use launch::Launcher;
pub use pool::{JobLost, OutputError, Pool, PoolStatus, Served};
pub use program::{Runtime, RuntimeError};
pub use shared::PoolSettings;
pub use wear::{Recycling, Wear, WornOut};
pub use worker::{StartError, Started, Worker};

//! S3 for tests: a [`Server`] is a real one, [`Scripted`] one that fails as it is told.

mod account;
mod process;
mod real;
mod scripted;

pub use account::Account;
pub use real::Server;
pub use scripted::{Algorithm, End, Fault, Gate, Matcher, Object, Request, Scripted};

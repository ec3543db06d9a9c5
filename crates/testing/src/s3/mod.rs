//! S3 for tests: a [`Server`] is a real one.

mod account;
mod process;
mod real;

pub use account::Account;
pub use real::Server;

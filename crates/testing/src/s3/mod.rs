//! S3 for tests: a [`Server`] is a real one, [`Faulty`] one that keeps objects and fails as it is told, [`Scripted`] one that has
//! no idea of S3 and answers what it is told.

mod account;
pub mod faulty;
mod process;
mod real;
pub mod scripted;

pub use account::Account;
pub use faulty::Faulty;
pub use real::Server;
pub use scripted::Scripted;

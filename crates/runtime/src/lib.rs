//! What a runtime is built on.
//!
//! A runtime is a program that hosts a script in one language. It implements [`Backend`] and hands itself to [`serve()`], which
//! speaks the protocol with the server. While the script runs it reaches the server through [`Host`] and [`CallHost`].
//!
//! With the feature `suite`, the module of that name states in code what every runtime must do.

mod aside;
mod backend;
mod connection;
mod flush;
mod host;
mod payload;
mod serve;
mod sys;

#[cfg(feature = "suite")]
pub mod suite;

pub use backend::{Answers, Backend, Identity};
pub use host::{CallHost, Host, HostError};
pub use serve::{WorkerError, serve};
pub use sys::inherited_socket;

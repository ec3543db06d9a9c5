//! The HTTP server of Dunnage, and the loop that runs its jobs.
//!
//! [`run`] starts everything a [`Config`] describes and ends when its stop signal does; [`check`] only loads the script.

mod config;

pub use config::{Config, HttpConfig, JobConfig, ServiceConfig, StorageConfig, WorkerConfig};

use std::future::Future;
use std::net::SocketAddr;

/// What loading a script has shown.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The runtime and its language, such as `dunnage-python 0.1.0 (CPython 3.11.7)`.
    pub runtime: String,
    /// The names of the functions the script has.
    pub functions: Vec<&'static str>,
    /// The names of those it lacks, each with what that means.
    pub missing: Vec<(&'static str, &'static str)>,
    /// How long it took from the start of the worker until the script was loaded.
    pub load_time: std::time::Duration,
    /// What the script printed while it loaded.
    pub printed: Vec<String>,
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Placeholder.
    #[error("x")]
    X,
}

/// Serves until `stop` ends. `listening` is called once, with the address, as soon as connections are accepted.
pub async fn run(
    config: Config,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let _ = (config, listening, stop);
    Err(ServeError::X)
}

/// Loads the script in a worker of its own, and tells what it found.
pub async fn check(config: Config) -> Result<CheckReport, ServeError> {
    let _ = config;
    Err(ServeError::X)
}

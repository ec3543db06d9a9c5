//! The HTTP server of Dunnage, and the loop that runs its jobs.
//!
//! [`run`] starts everything a [`Config`] describes and ends when its stop signal does; [`check()`] only loads the script.
//! Begin reading at `serve`, which is the wiring; `routes` holds the HTTP side, `jobs` the other.

mod app;
mod artifacts;
mod check;
mod config;
mod events;
mod host;
mod jobs;
mod metrics;
mod middleware;
mod problem;
mod reload;
mod routes;
mod serve;
mod submission;
mod tree;
mod versions;

pub use check::{CheckReport, check};
pub use config::{Config, HttpConfig, JobConfig, ServiceConfig, StorageConfig, WorkerConfig};
pub use problem::{Code, Problem};
pub use serve::{ServeError, run};

//! The HTTP server of Dunnage, and the loop that runs its jobs.
//!
//! [`run`] starts everything a [`Config`] describes and ends when its stop signal does; [`check()`] only loads the script.
//! Begin reading at `serve`, which is the wiring; `routes` holds the HTTP side, `jobs` and `callbacks` the other.

mod access;
mod app;
mod artifacts;
mod blocking;
mod callbacks;
mod check;
mod config;
mod events;
mod file_metrics;
mod file_problem;
mod fleet;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod http;
mod jobs;
mod life;
mod metrics;
mod middleware;
mod problem;
mod reload;
mod results;
mod routes;
mod schemas;
mod serve;
mod signals;
mod state;
mod storage;
mod submission;
mod threads;
mod tree;
mod uploads;
mod versions;

pub use access::{AccessError, InvalidScopes, InvalidTokens, Scope, Scopes, TlsConfig, Tokens, random_token};
pub use callbacks::{CallbackSecret, InvalidSecret};
pub use check::{CheckReport, check};
pub use config::{
    AccessConfig, CallbackConfig, Config, ConnectionConfig, DatabaseConfig, HttpConfig, JobConfig, MetricsConfig, MetricsOutput,
    ObjectConfig, ServiceConfig, StorageConfig, WorkerConfig,
};
pub use dunnage_files::Revalidate;
pub use dunnage_store::{Migrated, migrate};
pub use dunnage_workers::{Recycling, stand_guard};
pub use problem::{Code, Problem};
pub use serve::{ServeError, run};

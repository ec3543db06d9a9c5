//! The settings of `serve`, `check` and `config`: which there are, where they come from, and what is made of them.
//!
//! [`Settings`] is the one list of them; [`mod@file`] and [`origin`] put the layers over each other, and [`checked`] turns the
//! outcome into the server's own configuration.

pub(crate) mod access;
pub(crate) mod callbacks;
pub(crate) mod checked;
pub(crate) mod connections;
pub(crate) mod file;
pub(crate) mod local;
pub(crate) mod metrics;
pub(crate) mod objects;
pub(crate) mod origin;
pub(crate) mod problems;
pub(crate) mod recycling;
pub(crate) mod reference;
pub(crate) mod secret;
pub(crate) mod value;
pub(crate) mod variables;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum, ValueHint, builder::BoolishValueParser};
use dunnage_types::ServiceName;

use access::AccessSettings;
use callbacks::CallbackSettings;
use connections::ConnectionSettings;
use metrics::MetricSettings;
use objects::ObjectSettings;
use recycling::RecycleSettings;
use secret::Secret;

/// Everything `serve` can be told. The first sentence of each text is also its meaning in `docs/configuration.md`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// The script to serve, or the folder with its `model.py` or `model.lua`; by default the current one
    #[arg(value_name = "SCRIPT", env = "DUNNAGE_SCRIPT", value_hint = ValueHint::AnyPath)]
    pub(crate) script: Option<PathBuf>,
    /// A TOML file with settings; by default `dunnage.toml` beside the script, if there is one
    #[arg(long, value_name = "FILE", env = "DUNNAGE_CONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Service")]
    pub(crate) service: ServiceSettings,
    #[command(flatten, next_help_heading = "HTTP")]
    pub(crate) http: HttpSettings,
    #[command(flatten, next_help_heading = "Access")]
    pub(crate) access: AccessSettings,
    #[command(flatten, next_help_heading = "Workers")]
    pub(crate) workers: WorkerSettings,
    #[command(flatten, next_help_heading = "Jobs")]
    pub(crate) jobs: JobSettings,
    #[command(flatten, next_help_heading = "Callbacks")]
    pub(crate) callbacks: CallbackSettings,
    #[command(flatten, next_help_heading = "Storage")]
    pub(crate) storage: StorageSettings,
    #[command(flatten, next_help_heading = "S3, cache and artifacts")]
    pub(crate) objects: ObjectSettings,
    #[command(flatten, next_help_heading = "Metrics")]
    pub(crate) metrics: MetricSettings,
    #[command(flatten, next_help_heading = "Logs")]
    pub(crate) logs: LogSettings,
}

/// The script and how to run it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServiceSettings {
    /// The service's name; by default the script's, without its extension
    #[arg(long, env = "DUNNAGE_NAME")]
    pub(crate) name: Option<ServiceName>,
    /// The runtime: a program's path, or a name such as `lua` for `dunnage-lua`; by default the script's extension decides
    #[arg(long, env = "DUNNAGE_RUNTIME", value_hint = ValueHint::CommandName)]
    pub(crate) runtime: Option<String>,
    /// The Python interpreter, or the folder of a virtual environment; by default VIRTUAL_ENV, then `python3`
    #[arg(long, env = "DUNNAGE_PYTHON", value_hint = ValueHint::AnyPath)]
    pub(crate) python: Option<String>,
    /// What scripts see as `ctx.device`, such as `cuda:0`
    #[arg(long, env = "DUNNAGE_DEVICE", default_value = "cpu")]
    pub(crate) device: String,
    /// Replace the workers whenever the script's file changes
    #[arg(long, env = "DUNNAGE_RELOAD", value_name = "true|false", default_value = "false", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) reload: bool,
    /// How long a background loop may stand still, beyond what its work may take, before `/healthz/live` fails
    #[arg(long, env = "DUNNAGE_LOOP_PATIENCE", value_name = "TIME", default_value = "60s", value_parser = value::duration)]
    pub(crate) loop_patience: Duration,
}

/// The HTTP side.
#[derive(Debug, Clone, Args)]
pub(crate) struct HttpSettings {
    /// The address to listen on; anything but loopback needs tokens or `--allow-anonymous`
    #[arg(long, env = "DUNNAGE_HOST", value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = value::host)]
    pub(crate) host: IpAddr,
    /// The port; 0 lets the system choose
    #[arg(long, env = "DUNNAGE_PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// How many threads read requests, feed serving workers and write answers; 0 takes as many as there are cores
    #[arg(long, env = "DUNNAGE_HTTP_THREADS", value_name = "COUNT", default_value_t = 0)]
    pub(crate) http_threads: usize,
    /// Listen beyond loopback although nobody has to say who they are
    #[arg(long, env = "DUNNAGE_ALLOW_ANONYMOUS", value_name = "true|false", default_value = "false",
          default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(),
          hide_possible_values = true)]
    pub(crate) allow_anonymous: bool,
    /// A host name, besides those of loopback, by which the server may be called; beyond loopback any is, until one is named; repeatable
    #[arg(long, env = "DUNNAGE_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',', value_parser = value::host_name)]
    pub(crate) allowed_host: Vec<String>,
    /// The longest JSON body
    #[arg(long, env = "DUNNAGE_MAX_BODY", value_name = "SIZE", default_value = "1MiB", value_parser = value::size)]
    pub(crate) max_body: ByteSize,
    /// The longest multipart body: all files of one request together
    #[arg(long, env = "DUNNAGE_MAX_UPLOAD", value_name = "SIZE", default_value = "1GiB", value_parser = value::size)]
    pub(crate) max_upload: ByteSize,
    /// The most files in one request
    #[arg(long, env = "DUNNAGE_MAX_FILES", value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) max_files: usize,
    /// The most streams of `/jobs/{id}/events` open at once
    #[arg(long, env = "DUNNAGE_MAX_STREAMS", value_name = "COUNT", default_value_t = 1000)]
    pub(crate) max_streams: usize,
    #[command(flatten)]
    pub(crate) connections: ConnectionSettings,
}

/// The worker processes.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerSettings {
    /// How many workers answer `/output`
    #[arg(long, env = "DUNNAGE_WORKERS", value_name = "COUNT", default_value_t = 1)]
    pub(crate) workers: usize,
    /// How many threads numerical libraries may use in each worker, unless `OMP_NUM_THREADS` and the like say so; 0 shares the cores
    #[arg(long, env = "DUNNAGE_THREADS_PER_WORKER", value_name = "COUNT", default_value_t = 0)]
    pub(crate) threads_per_worker: usize,
    /// The most requests in one batch; only scripts with `output_batch` see batches
    #[arg(long, env = "DUNNAGE_MAX_BATCH", value_name = "COUNT", default_value_t = 32)]
    pub(crate) max_batch: usize,
    /// How long a request may wait for others to batch with; 0s takes what has queued
    #[arg(long, env = "DUNNAGE_MAX_WAIT", value_name = "TIME", default_value = "0s", value_parser = value::duration)]
    pub(crate) max_wait: Duration,
    /// How many requests may wait for a worker
    #[arg(long, env = "DUNNAGE_MAX_QUEUE", value_name = "COUNT", default_value_t = 1024)]
    pub(crate) max_queue: usize,
    /// Refuse requests that would wait longer for a worker, once 16 wait for each; 0s leaves it to `--timeout`
    #[arg(long, env = "DUNNAGE_MAX_QUEUE_WAIT", value_name = "TIME", default_value = "2s", value_parser = value::duration)]
    pub(crate) max_queue_wait: Duration,
    /// How long a client waits for an answer at most, and a worker may be at one call before it is killed
    #[arg(long, env = "DUNNAGE_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) timeout: Duration,
    /// How long the script may take to load
    #[arg(long, env = "DUNNAGE_LOAD_TIMEOUT", value_name = "TIME", default_value = "5m", value_parser = value::duration)]
    pub(crate) load_timeout: Duration,
    /// The longest output vector, by the bytes of its numbers
    #[arg(long, env = "DUNNAGE_MAX_OUTPUT", value_name = "SIZE", default_value = "64MiB", value_parser = value::size)]
    pub(crate) max_output: ByteSize,
    #[command(flatten)]
    pub(crate) recycling: RecycleSettings,
}

/// The jobs.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobSettings {
    /// How many job workers there may be; 0 runs jobs in the serving workers
    #[arg(long, env = "DUNNAGE_JOB_WORKERS", value_name = "COUNT", default_value_t = 1)]
    pub(crate) job_workers: usize,
    /// How long one attempt may take before its worker is killed
    #[arg(long, env = "DUNNAGE_JOB_TIMEOUT", value_name = "TIME", default_value = "24h", value_parser = value::duration)]
    pub(crate) job_timeout: Duration,
    /// How many attempts a job may have
    #[arg(long, env = "DUNNAGE_MAX_ATTEMPTS", value_name = "COUNT", default_value_t = 3)]
    pub(crate) max_attempts: u32,
    /// How long an attempt holds its job without a sign of life
    #[arg(long, env = "DUNNAGE_LEASE", value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) lease: Duration,
    /// How long a cancelled job may take to end by itself before its worker is ended
    #[arg(long, env = "DUNNAGE_CANCEL_GRACE", value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub(crate) cancel_grace: Duration,
    /// How long an idle job worker is kept
    #[arg(long, env = "DUNNAGE_JOB_IDLE", value_name = "TIME", default_value = "60s", value_parser = value::duration)]
    pub(crate) job_idle: Duration,
    /// How long running jobs may go on after SIGTERM
    #[arg(long, env = "DUNNAGE_GRACE", value_name = "TIME", default_value = "25s", value_parser = value::duration)]
    pub(crate) grace: Duration,
    /// How long ended jobs are kept
    #[arg(long, env = "DUNNAGE_RETENTION", value_name = "TIME", default_value = "7d", value_parser = value::duration)]
    pub(crate) retention: Duration,
    /// The most log lines kept of one attempt
    #[arg(long, env = "DUNNAGE_MAX_LOG_LINES", value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) max_log_lines: usize,
    /// Keep Amazon ECS from ending this task when it scales in or deploys while a job runs here
    #[arg(long, env = "DUNNAGE_ECS_TASK_PROTECTION", value_name = "true|false", default_value = "false",
          default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(),
          hide_possible_values = true)]
    pub(crate) ecs_task_protection: bool,
}

/// The files and the database.
#[derive(Debug, Clone, Args)]
pub(crate) struct StorageSettings {
    /// The folder for everything the server keeps; by default `.dunnage` beside the script
    #[arg(long, env = "DUNNAGE_DATA_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder below which `file://` addresses are served; none are without it
    #[arg(long, env = "DUNNAGE_FILES_ROOT", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) files_root: Option<PathBuf>,
    /// The PostgreSQL database that the replicas of the service share; without it, SQLite in the data folder, for one server
    #[arg(long, env = "DUNNAGE_DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = secret::parser())]
    pub(crate) database_url: Option<Secret>,
    /// How many connections there may be to the database; two more are for renewals and notifications
    #[arg(long, env = "DUNNAGE_DATABASE_CONNECTIONS", value_name = "COUNT", default_value_t = 8)]
    pub(crate) database_connections: usize,
    /// The largest value in the state
    #[arg(long, env = "DUNNAGE_STATE_VALUE_BYTES", value_name = "SIZE", default_value = "8MiB", value_parser = value::size)]
    pub(crate) state_value_bytes: ByteSize,
    /// How much memory the read cache of the state may take up
    #[arg(long, env = "DUNNAGE_STATE_CACHE_BYTES", value_name = "SIZE", default_value = "64MiB", value_parser = value::size)]
    pub(crate) state_cache_bytes: ByteSize,
    /// How long `/output` may miss what another replica has written to the state; 0s reads everything from the database
    #[arg(long, env = "DUNNAGE_STATE_MAX_STALE", value_name = "TIME", default_value = "1s", value_parser = value::duration)]
    pub(crate) state_max_stale: Duration,
}

/// What the server itself says, on standard error.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogSettings {
    /// The form of the log; `auto` is pretty on a terminal and JSON otherwise
    #[arg(long, env = "DUNNAGE_LOG_FORMAT", value_name = "FORM", value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or a filter such as `info,dunnage_workers=debug`
    #[arg(long, env = "DUNNAGE_LOG_LEVEL", value_name = "FILTER", default_value = "info", value_parser = value::log_filter)]
    pub(crate) log_level: String,
}

/// The form of the log. (Texts on the variants would turn the whole help into its long form.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
}

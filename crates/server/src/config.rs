//! What a server is told at its start. Read and checked once by the binary; nothing here looks at the environment.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dunnage_files::Revalidate;
use dunnage_types::{ObjectPrefix, ServiceName};
use dunnage_workers::Recycling;

use crate::access::{TlsConfig, Tokens};
use crate::callbacks::CallbackSecret;

/// Everything a server needs to know. The flag of each value is named in its text.
#[derive(Debug, Clone)]
pub struct Config {
    /// The script and how to run it.
    pub service: ServiceConfig,
    /// The HTTP side.
    pub http: HttpConfig,
    /// Who may do what, and how connections are encrypted.
    pub access: AccessConfig,
    /// The worker processes.
    pub workers: WorkerConfig,
    /// The jobs.
    pub jobs: JobConfig,
    /// Telling clients of the ends of their jobs.
    pub callbacks: CallbackConfig,
    /// The files and the database.
    pub storage: StorageConfig,
    /// Objects in S3, the copies kept of them, and the artifacts.
    pub objects: ObjectConfig,
    /// How the metrics get out, besides `/metrics`.
    pub metrics: MetricsConfig,
    /// Where whoever writes the log counts the lines that nobody got. The metrics tell.
    pub lost_log_lines: Arc<AtomicU64>,
}

/// The script and how to run it.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The service's name. `--name`; by default the script's, without its extension.
    pub name: ServiceName,
    /// The script. Positional.
    pub script: PathBuf,
    /// The runtime: a program's path, or a name such as `lua` for `dunnage-lua`. `--runtime`; by default the script's
    /// extension decides (`.py`, `.lua`).
    pub runtime: Option<String>,
    /// The Python interpreter, or the folder of a virtual environment. `--python`; by default `VIRTUAL_ENV`, then `python3`.
    pub python: Option<String>,
    /// What scripts see as `ctx.device`. `--device`, by default `cpu`.
    pub device: String,
    /// Whether the workers are replaced whenever the script's file changes. `--reload`.
    pub reload: bool,
    /// How long a background loop may give no sign of life, beyond what its work may take. `--loop-patience`, by default 60 s.
    pub loop_patience: Duration,
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The address to listen on. `--host`, by default 127.0.0.1.
    pub host: IpAddr,
    /// The port; 0 lets the system choose. `--port`, by default 8080.
    pub port: u16,
    /// Whether an address beyond loopback may be used though nobody has to say who they are. `--allow-anonymous`.
    pub allow_anonymous: bool,
    /// Host names, besides those of loopback, by which the server may be called: always while it listens on loopback, and elsewhere
    /// once there are any. `--allowed-host`.
    pub allowed_hosts: Vec<String>,
    /// How many threads read requests and write answers; zero takes as many as there are cores. `--http-threads`, by default 0.
    pub threads: usize,
    /// The longest JSON body, in bytes. `--max-body`, by default 1 MiB.
    pub max_body_bytes: usize,
    /// The longest multipart body, in bytes. `--max-upload`, by default 1 GiB.
    pub max_upload_bytes: u64,
    /// The most files in one request. `--max-files`, by default 10 000.
    pub max_files: usize,
    /// The most streams of `/jobs/{id}/events` open at once. `--max-streams`, by default 1000.
    pub max_streams: usize,
    /// How long connections may be quiet, and what the heads of requests may be.
    pub connections: ConnectionConfig,
}

/// How long connections may be quiet, and what their heads may be.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// The most connections that are served at once. `--max-connections`, by default 4096.
    pub max: usize,
    /// How long the head of a request may take to come, and a handshake of TLS. `--head-timeout`, by default 30 s.
    ///
    /// The time during which this process stands still counts too, and a client that was prompt must not be refused for it.
    pub head_timeout: Duration,
    /// How long a connection may stay open without a request. `--keep-alive`, by default 75 s.
    pub keep_alive: Duration,
    /// How long a body may be awaited beyond what `min_body_rate` grants it. `--body-grace`, by default 10 s.
    pub body_grace: Duration,
    /// How many bytes of a body must come in each second that it is awaited, and how many of an answer must be taken in each second
    /// that it waits for that. `--min-body-rate`, by default 1 KiB.
    pub min_body_rate: u64,
    /// How long a client may take nothing of its answer, and how long an answer may wait in all beyond what `min_body_rate` grants it.
    /// `--write-timeout`, by default 30 s.
    pub write_timeout: Duration,
    /// The longest target of a request (its path and query), in bytes. `--max-target`, by default 8 KiB.
    pub max_target_bytes: usize,
    /// The longest head of a request, in bytes. `--max-head`, by default 64 KiB.
    pub max_head_bytes: usize,
}

impl ConnectionConfig {
    /// The longest target of a request that can be read.
    pub const LONGEST_TARGET: usize = 65_534;
    /// The longest head of a request that can be read.
    pub const LONGEST_HEAD: usize = 131_072;
}

/// Who may do what, and how connections are encrypted.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// The tokens that are taken besides those of the file. `--tokens`.
    pub tokens: Tokens,
    /// A file with tokens, which may change while the server runs. `--token-file`.
    pub token_file: Option<PathBuf>,
    /// The origins, such as `https://app.example`, whose pages may use the service in browsers; none by default. `--allowed-origin`.
    pub allowed_origins: Vec<String>,
    /// The server's certificate; without one, connections are not encrypted. `--tls-cert` and `--tls-key`.
    pub tls: Option<TlsConfig>,
}

/// The worker processes.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many workers answer `/output`. `--workers`, by default 1.
    pub serving: usize,
    /// How many threads numerical libraries may use in each worker. `--threads-per-worker`, by default 0: the serving workers share the
    /// cores among them, and a job worker takes no more than its part beside all of them.
    pub threads: usize,
    /// The most requests in one batch. `--max-batch`, by default 32. Only scripts with `output_batch` see batches.
    pub max_batch: usize,
    /// How long a request may wait for others to batch with; zero takes what has queued. `--max-wait`, by default 0.
    pub max_wait: Duration,
    /// How many requests may wait for a worker. `--max-queue`, by default 1024.
    pub max_queue: usize,
    /// For how long a request may be expected to wait for a worker before it is refused at once, though a few always may; zero for as
    /// long as `timeout` allows. `--max-queue-wait`, by default 2 s.
    pub max_queue_wait: Duration,
    /// How long a client waits for an answer at most, and how long a worker may be at one call before it is killed. `--timeout`, by
    /// default 30 s.
    pub timeout: Duration,
    /// How long the script may take to load. `--load-timeout`, by default 5 min.
    pub load_timeout: Duration,
    /// After what a worker is replaced though it has not died. `--recycle-after`, `--recycle-rss` and `--recycle-failures`, by
    /// default nothing.
    pub recycling: Recycling,
    /// The longest output vector that is passed on, in bytes of its numbers. `--max-output`, by default 64 MiB.
    pub max_output_bytes: usize,
}

/// The jobs.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// How many job workers there may be. `--job-workers`, by default 1; zero runs jobs in the serving workers.
    pub workers: usize,
    /// How long one attempt may take before its worker is killed. `--job-timeout`, by default 24 h.
    pub timeout: Duration,
    /// How many attempts a job may have. `--max-attempts`, by default 3.
    pub max_attempts: u32,
    /// How long an attempt holds its job without a sign of life. `--lease`, by default 30 s.
    pub lease: Duration,
    /// How long a cancelled job may take to end by itself before its worker is ended. `--cancel-grace`, by default 5 s.
    pub cancel_grace: Duration,
    /// How long an idle job worker is kept. `--job-idle`, by default 60 s.
    pub idle: Duration,
    /// How long running jobs may go on after SIGTERM. `--grace`, by default 25 s.
    pub grace: Duration,
    /// How long ended jobs are kept. `--retention`, by default 7 d.
    pub retention: Duration,
    /// The most log lines kept of one attempt. `--max-log-lines`, by default 10 000.
    pub max_log_lines: usize,
    /// The URL of the agent of Amazon ECS that is asked not to end this task while a job runs here. `--ecs-task-protection` and
    /// `ECS_AGENT_URI`; by default none is.
    pub ecs_agent: Option<String>,
}

/// Telling clients of the ends of their jobs.
#[derive(Debug, Clone)]
pub struct CallbackConfig {
    /// What callbacks are signed with, each by every secret; none are taken or delivered without. `--callback-secret`.
    pub secrets: Vec<CallbackSecret>,
    /// Whether they may go to private and loopback addresses, and over plain HTTP. `--callback-private`.
    pub allow_private: bool,
    /// How many deliveries are tried. `--callback-attempts`, by default 10.
    pub attempts: u32,
    /// How long one delivery may take. `--callback-timeout`, by default 15 s.
    pub timeout: Duration,
    /// The first wait between two deliveries; the following ones are longer. `--callback-backoff`, by default 5 s.
    pub backoff: Duration,
}

/// The files and the database.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The folder for everything the server keeps. `--data-dir`, by default `.dunnage` beside the script.
    pub data_dir: PathBuf,
    /// The folder below which `file://` addresses are served; none are without it. `--files-root`.
    pub files_root: Option<PathBuf>,
    /// The database of a fleet; without it, SQLite in the data folder, for one server. `--database-url`.
    pub database: Option<DatabaseConfig>,
    /// The largest value in the state, in bytes. `--state-value-bytes`, by default 8 MiB.
    pub state_value_bytes: usize,
    /// How much memory the read cache of the state may take up, in bytes. `--state-cache-bytes`, by default 64 MiB.
    pub state_cache_bytes: u64,
    /// How long `/output` may miss what another replica has written to the state; zero reads every value from the database.
    /// `--state-max-stale`, by default 1 s.
    pub state_max_stale: Duration,
}

/// Objects in S3, the copies kept of them, and the artifacts.
#[derive(Debug, Clone)]
pub struct ObjectConfig {
    /// Where artifacts and the uploads of jobs are kept for all replicas. `--bucket`; without it, in the data folder.
    pub bucket: Option<ObjectPrefix>,
    /// Which objects clients may name; empty for all that the credentials allow. `--allow-files`.
    pub allow_files: Vec<ObjectPrefix>,
    /// Where the results of jobs may be written; nowhere by default. `--allow-output`.
    pub allow_output: Vec<ObjectPrefix>,
    /// The URL of an S3 server other than Amazon's. `--s3-endpoint`; by default what the usual AWS settings say.
    pub endpoint: Option<String>,
    /// The region of the buckets. `--s3-region`; by default what the usual AWS settings say.
    pub region: Option<String>,
    /// Whether buckets are named in the path instead of the host. `--s3-path-style`; by default where there is an endpoint.
    pub path_style: Option<bool>,
    /// Whether S3 is asked without credentials. `--s3-anonymous`.
    pub anonymous: bool,
    /// The folder for copies of objects. `--cache-dir`, by default `cache` in the data folder.
    pub cache_dir: PathBuf,
    /// How much disk the copies may take up, in bytes. `--cache-bytes`, by default 10 GiB.
    pub cache_bytes: u64,
    /// The largest object that is fetched, in bytes. `--max-file`, by default whatever fits into the cache.
    pub max_file_bytes: Option<u64>,
    /// When S3 is asked whether a copy is still the object. `--revalidate`, by default always.
    pub revalidate: Revalidate,
    /// How many bytes of objects may be on their way at once. `--fetch-bytes`, by default 256 MiB.
    pub fetch_bytes: u64,
    /// How long one object may take to arrive. `--fetch-timeout`, by default 10 min.
    pub fetch_timeout: Duration,
    /// How long S3 may send nothing before it is asked again. `--fetch-stall`, by default 5 s.
    pub fetch_stall: Duration,
    /// Of how many waiting jobs the objects are fetched while earlier jobs run. `--prefetch`, by default 4.
    pub prefetch: u32,
    /// How large an artifact may be, in bytes. `--max-artifact-bytes`, by default 10 GiB.
    pub max_artifact_bytes: u64,
    /// How many files an artifact may have. `--max-artifact-files`, by default 10 000.
    pub max_artifact_files: usize,
}

/// How the metrics get out, besides `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsConfig {
    /// In which form they are written, and whether they are. `--metrics`, by default `prometheus`.
    pub output: MetricsOutput,
    /// How often they are written. `--metrics-interval`, by default 60 s.
    pub interval: Duration,
}

/// In which form metrics get out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsOutput {
    /// At `/metrics`, which is always there, and nowhere else.
    Prometheus,
    /// Also on standard output, in CloudWatch's embedded metric format.
    Emf,
}

/// PostgreSQL, shared by the replicas of a service.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// Where it is, `postgres://…`, with the password. `--database-url`.
    pub url: String,
    /// How many connections there may be for everything but renewals and notifications. `--database-connections`, by default 8.
    pub connections: usize,
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DatabaseConfig").field("connections", &self.connections).finish_non_exhaustive()
    }
}

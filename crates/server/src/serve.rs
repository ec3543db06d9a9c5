//! Puts a server together, runs it, and takes it apart again.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use actix_web::web;
use dunnage_loops::Loops;
use dunnage_store::StoreError;
use dunnage_types::ReplicaId;
use dunnage_workers::{Launcher, Pool, PoolSettings, Runtime, RuntimeError};

use crate::access::{Access, AccessError};
use crate::app::{App, Parts};
use crate::callbacks::Deliveries;
use crate::config::{Config, MetricsOutput};
use crate::fleet::Fleet;
use crate::host::ServingHost;
use crate::http::{EventLoops, Server};
use crate::jobs::Loop;
use crate::metrics::Metrics;
use crate::signals::emf;
use crate::state::{CachedState, StateCacheLimits};
use crate::storage::{self, Storage};
use crate::{reload, threads};

/// Serves until `stop` ends. `listening` is called once, with the address, as soon as connections are accepted.
///
/// Then: not ready any more, no more claims, running jobs get the grace, the rest is handed back, requests in flight are
/// answered, and every worker ends.
///
/// # Errors
///
/// [`ServeError`] if the server cannot start.
pub async fn run(
    config: Config,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    tokio::pin!(stop);
    let event_loops = EventLoops::start(threads::for_http(&config.http)).await.map_err(ServeError::Threads)?;
    let app = tokio::select! {
        app = assemble(config, &event_loops) => web::Data::from(Arc::new(app?)),
        // What has been started ends as it is dropped.
        () = &mut stop => return Ok(()),
    };
    let mut server = listen(&app, event_loops)?;
    let jobs = Loop::start(&app);
    let fleet = Fleet::start(&app);
    let callbacks = Deliveries::start(&app);
    let following = app.access.follow(&app.loops);
    let signals = (app.config.metrics.output == MetricsOutput::Emf).then(|| app.start_loop("emf", emf::publish));
    let reload = app.config.service.reload.then(|| app.start_loop("script-reloader", reload::watch));
    listening(server.address());

    tokio::select! {
        () = &mut stop => {}
        // Whoever runs this process has to start it again.
        () = server.failed() => return Err(ServeError::Http),
    }
    tracing::info!("stopping");
    drop([reload, following, signals]);
    shut_down(&app, jobs, fleet, server).await;
    callbacks.stop().await;
    Ok(())
}

/// Opens everything a server needs, and starts its workers.
async fn assemble(config: Config, event_loops: &EventLoops) -> Result<App, ServeError> {
    let script = script(&config)?;
    let runtime = runtime(&config)?;
    let access = Access::open(&config.http, &config.access)?;
    let loops = Loops::new(config.service.loop_patience);
    loops.watch().map_err(ServeError::Watch)?;
    let replica = ReplicaId::random();
    let settings = PoolSettings { event_loops: event_loops.handles(), ..pool_settings(&config, &script, &runtime) };
    let launcher = Launcher::start(&loops).map_err(ServeError::Launcher)?;
    // Interpreters take as long to start as databases do to open. They get no script before there is a guard.
    launcher.launch_ahead(&settings.runtime, &script, settings.workers);
    launcher.look_after_orphans(guard);
    let Storage { store, files, artifacts } = storage::open(&config, replica, &loops).await?;

    let metrics = Metrics::new(config.service.name.as_str())?;
    let cache_limits = StateCacheLimits { bytes: config.storage.state_cache_bytes, max_stale: config.storage.state_max_stale };
    let state = Arc::new(CachedState::new(Arc::clone(&store), cache_limits, metrics.state_cache()));
    let host = Arc::new(ServingHost::new(Arc::clone(&state)));
    let threads = threads::of_each_worker(&config.workers, config.workers.serving + config.jobs.workers);
    let runtime = Runtime { threads, ..runtime };
    let pool = match store.active().await? {
        None => Pool::start(settings, launcher.clone(), host, None),
        // To check its artifact, or even to fetch it, may take long; the fleet's loop sees to it.
        Some(_) => Pool::new(settings, launcher.clone(), host),
    };
    Ok(App::new(Parts { config, access, loops, script, runtime, launcher, replica, store, state, files, artifacts, pool, metrics }))
}

/// The script's absolute path.
pub(crate) fn script(config: &Config) -> Result<PathBuf, ServeError> {
    let script = &config.service.script;
    script.canonicalize().map_err(|source| ServeError::Script { path: script.clone(), source })
}

/// The program that runs the script, with its arguments.
pub(crate) fn runtime(config: &Config) -> Result<Runtime, ServeError> {
    let service = &config.service;
    let mut runtime = Runtime::find(&service.script, service.runtime.as_deref())?;
    if let Some(python) = &service.python {
        runtime.arguments.extend(["--python".into(), anchored(python)]);
    }
    Ok(runtime)
}

/// A path as it is meant here; workers run in the script's folder. A bare name of a program stays as it is.
fn anchored(python: &str) -> OsString {
    let path = Path::new(python);
    let is_path = python.contains('/') || path.exists();
    is_path.then(|| std::path::absolute(path).ok()).flatten().map_or_else(|| python.into(), PathBuf::into_os_string)
}

fn pool_settings(config: &Config, script: &Path, runtime: &Runtime) -> PoolSettings {
    let workers = &config.workers;
    PoolSettings {
        service: config.service.name.clone(),
        script: script.to_owned(),
        runtime: Runtime { threads: threads::of_each_worker(workers, workers.serving), ..runtime.clone() },
        device: config.service.device.clone(),
        workers: workers.serving,
        max_batch: workers.max_batch,
        max_wait: workers.max_wait,
        timeout: workers.timeout,
        max_queue: workers.max_queue,
        max_queue_wait: workers.max_queue_wait,
        load_timeout: workers.load_timeout,
        recycling: workers.recycling,
        max_output_bytes: workers.max_output_bytes,
        event_loops: Vec::new(),
    }
}

fn listen(app: &web::Data<App>, event_loops: EventLoops) -> Result<Server, ServeError> {
    let address = SocketAddr::new(app.config.http.host, app.config.http.port);
    Server::start(app, event_loops).map_err(|source| ServeError::Bind { address, source })
}

async fn shut_down(app: &App, jobs: Loop, fleet: Fleet, server: Server) {
    // Ends the streams of events, too, which would hold up the HTTP server for as long as their jobs run.
    app.begin_stopping();
    fleet.stop(app).await;
    // Requests are answered while jobs come to their end: whoever sends them has yet to see that we are not ready.
    jobs.stop(app, app.config.jobs.grace).await;
    let event_loops = server.stop(app.config.workers.timeout).await;
    app.pool.stop().await;
    event_loops.end().await;
    app.launcher.finish().await;
}

/// This program once more, by a path that also holds when it has been replaced by a newer one.
fn guard() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("guard");
    command
}

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The script is not there.
    #[error("the script `{}` cannot be found", path.display())]
    Script {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to run it.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Tokens or certificates cannot be used, or anybody could come in.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A folder cannot be used.
    #[error("the folder `{}` for {what} cannot be used", path.display())]
    Folder {
        /// What it is for.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder for files cannot be used.
    #[error(transparent)]
    Files(#[from] dunnage_files::OpenError),
    /// The bucket cannot be used.
    #[error("the bucket cannot be used (`--bucket`): {0}")]
    Bucket(#[source] dunnage_files::FileError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread can be started.
    #[error("the thread that starts workers cannot be started")]
    Launcher(#[source] io::Error),
    /// No thread can be started.
    #[error("the thread that watches the others cannot be started")]
    Watch(#[source] io::Error),
    /// The metrics contradict each other.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
    /// The address is taken, or not ours.
    #[error("`{address}` cannot be listened on; choose another with `--host` and `--port`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No thread can be started, or what it needs.
    #[error("the threads that answer requests cannot be started")]
    Threads(#[source] io::Error),
    /// Nobody is listened to any more though nobody has said so.
    #[error("a thread that answers requests has ended before it was told to")]
    Http,
    /// The script cannot be loaded.
    #[error(transparent)]
    Start(#[from] dunnage_workers::StartError),
}

impl ServeError {
    /// The script's own traceback, where the script is to blame.
    #[must_use]
    pub fn traceback(&self) -> Option<&str> {
        match self {
            Self::Start(dunnage_workers::StartError::Script(error)) => error.traceback.as_deref(),
            _ => None,
        }
    }
}

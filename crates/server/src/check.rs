//! Loads a script without serving it, to see whether it can be.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dunnage_loops::Loops;
use dunnage_protocol::{Answer, AskError, Functions, Load, Operation, Role};
use dunnage_types::{Progress, WorkerId};
use dunnage_workers::{Host, Launcher, Line, Worker};

use crate::config::Config;
use crate::host::not_allowed;
use crate::serve::{self, ServeError};

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
    pub load_time: Duration,
    /// What the script printed while it loaded.
    pub printed: Vec<String>,
}

/// Loads the script in a worker of its own, without an artifact, and tells what it found. Nothing is kept.
///
/// # Errors
///
/// [`ServeError`] if it cannot be loaded, or fails its own test.
pub async fn check(config: Config) -> Result<CheckReport, ServeError> {
    let script = serve::script(&config)?;
    let runtime = serve::runtime(&config)?;
    let launcher = Launcher::start(&Loops::default()).map_err(ServeError::Launcher)?;
    let load = Load {
        service: config.service.name,
        worker: WorkerId(1),
        role: Role::Serving,
        script,
        artifact: None,
        device: config.service.device,
        descriptors: true,
    };
    let listener = Arc::new(Listener::default());
    let worker = Worker::start(&launcher, &runtime, load, config.workers.load_timeout, Arc::clone(&listener) as _).await?;
    let started = worker.started().clone();
    worker.stop().await;
    let hello = started.hello;
    let (functions, missing) = sort(started.functions);
    Ok(CheckReport {
        runtime: format!("{} {} ({})", hello.runtime, hello.version, hello.language),
        functions,
        missing,
        load_time: started.load_time,
        printed: listener.take(),
    })
}

type Named = Vec<&'static str>;
type Explained = Vec<(&'static str, &'static str)>;

fn sort(functions: Functions) -> (Named, Explained) {
    let all = [
        ("train", functions.train, "`POST /train` answers 501"),
        ("input", functions.input, "`POST /input` answers 501"),
        ("output", functions.output, "`POST /output` answers 501"),
        ("output_batch", functions.output_batch, "requests are answered one by one, which is fine for most scripts"),
        ("self_test", functions.self_test, "a new version serves as soon as it is loaded, untried"),
    ];
    let present = all.iter().filter(|(_, present, _)| *present).map(|(name, ..)| *name).collect();
    let missing = all.iter().filter(|(_, present, _)| !present).map(|(name, _, meaning)| (*name, *meaning)).collect();
    (present, missing)
}

/// Collects what is printed, and has no state to offer.
#[derive(Default)]
struct Listener {
    lines: Mutex<Vec<String>>,
}

impl Listener {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Host for Listener {
    async fn answer(&self, operation: Operation) -> Result<Answer, AskError> {
        match operation {
            // A fresh service has an empty state.
            Operation::StateGet { .. } => Ok(Answer::Value(None)),
            Operation::StateScan { .. } => Ok(Answer::Entries(Vec::new())),
            _ => Err(not_allowed("a check changes nothing")),
        }
    }

    fn progress(&self, _progress: Progress) {
        // Only jobs have progress.
    }

    fn line(&self, line: Line) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.message);
    }
}

//! The way of a request through the queue to a worker process and back, without HTTP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use dunnage_loops::Loops;
use dunnage_protocol::{Answer, AskError, Operation};
use dunnage_types::Progress;
use dunnage_workers::{Host, Launcher, Line, Pool, PoolSettings, Recycling, Runtime};
use tokio::time::Instant;

use crate::codec;
use crate::place::Place;

/// Nothing takes as long, even under callgrind.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the runtime without a language, one question after the other.
pub(crate) fn ask(place: &Place, rounds: u32) -> anyhow::Result<()> {
    // One thread, so that nothing depends on which is woken first.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("there is no event loop")?;
    runtime.block_on(ask_one_by_one(place, rounds))
}

async fn ask_one_by_one(place: &Place, rounds: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("there is no room for temporary files")?;
    let script = folder.path().join("model.txt");
    std::fs::write(&script, "constant").context("the script cannot be written")?;
    let launcher = Launcher::start(&Loops::default()).context("workers cannot be started")?;
    let runtime = Runtime { program: place.runtime()?, arguments: Vec::new(), threads: 1 };
    let pool = Pool::start(settings(script, runtime)?, launcher.clone(), Arc::new(Deaf), None);
    for _ in 0..rounds {
        let served = pool.output(codec::request(), Box::new(()), Instant::now() + PATIENCE).await?;
        ensure!(served.vector.len() as u64 == codec::NUMBERS, "numbers were lost");
    }
    pool.stop().await;
    launcher.finish().await;
    Ok(())
}

/// As `dunnage serve` has them by default.
fn settings(script: std::path::PathBuf, runtime: Runtime) -> anyhow::Result<PoolSettings> {
    Ok(PoolSettings {
        service: "guard".parse()?,
        script,
        runtime,
        device: "cpu".to_owned(),
        workers: 1,
        max_batch: 32,
        max_wait: Duration::ZERO,
        timeout: PATIENCE,
        max_queue: 1024,
        max_queue_wait: Duration::from_secs(2),
        load_timeout: PATIENCE,
        recycling: Recycling::default(),
        max_output_bytes: 64 << 20,
        event_loops: Vec::new(),
    })
}

/// Is told nothing worth keeping, and is asked nothing.
struct Deaf;

#[async_trait]
impl Host for Deaf {
    async fn answer(&self, _operation: Operation) -> Result<Answer, AskError> {
        Err(AskError { code: "not_allowed".to_owned(), message: "there is no state here".to_owned() })
    }

    fn progress(&self, _progress: Progress) {}

    fn line(&self, _line: Line) {}
}

//! A slot keeps one serving worker alive: starts it, feeds it, and replaces it when it dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunnage_protocol::{Load, Role};
use dunnage_types::WorkerId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::batch::{self, Answered, BatchLimits, Failed, Pending, PendingJob, Work};
use crate::exit::{Exit, Lost};
use crate::generation::{Generation, Phase};
use crate::shared::Shared;
use crate::worker::{StartError, Worker};

/// The wait before the first new start after a failure; doubled with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait between two starts while the script cannot be loaded.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// The longest wait after the loss of a worker that had loaded the script: the request it had is to blame, and others wait.
const LONGEST_BACKOFF_ONCE_LOADED: Duration = Duration::from_secs(1);

/// Runs until the generation is retired.
pub(crate) async fn run(shared: Arc<Shared>, generation: Arc<Generation>) {
    let mut phases = generation.phases();
    let mut failures = 0;
    while *phases.borrow_and_update() != Phase::Retired {
        let longest;
        match start(&shared, &generation, &mut phases).await {
            None => return,
            Some(Ok(worker)) => {
                generation.worker_loaded(worker.started().functions);
                let mut answered = 0;
                let lost = serve(&shared, &generation, &mut phases, worker, &mut answered).await;
                generation.worker_gone();
                match lost {
                    None => return,
                    Some(lost) => shared.note_loss(&lost),
                }
                failures = if answered > 0 { 1 } else { failures + 1 };
                longest = LONGEST_BACKOFF_ONCE_LOADED;
            }
            Some(Err(error)) => {
                shared.note_failed_start(&error);
                generation.worker_failed(error.to_string());
                if *phases.borrow() == Phase::Serving && generation.ready() == 0 {
                    shared.refuse_waiting(&error.to_string());
                }
                failures += 1;
                longest = LONGEST_BACKOFF;
            }
        }
        rest(backoff(failures, longest), &mut phases).await;
    }
}

/// Starts a worker; `None` when the generation is retired meanwhile.
async fn start(
    shared: &Shared,
    generation: &Generation,
    phases: &mut watch::Receiver<Phase>,
) -> Option<Result<Worker, StartError>> {
    let settings = &shared.settings;
    let load = Load {
        service: settings.service.clone(),
        worker: shared.next_worker(),
        role: Role::Serving,
        script: settings.script.clone(),
        artifact: generation.artifact.clone(),
        device: settings.device.clone(),
    };
    let worker: WorkerId = load.worker;
    let host = Arc::clone(&shared.host);
    let started = Worker::start(&shared.launcher, &settings.runtime, load, settings.load_timeout, host);
    tokio::select! {
        started = started => {
            if let Ok(started) = &started {
                tracing::info!(
                    %worker, pid = started.pid(), load_ms = millis(started.started().load_time),
                    version = generation.version().map(|version| version.get()), "a serving worker is ready",
                );
            }
            Some(started)
        }
        () = retired(phases) => None,
    }
}

/// Feeds a worker until it is lost, or (`None`) until the generation is retired.
async fn serve(
    shared: &Shared,
    generation: &Generation,
    phases: &mut watch::Receiver<Phase>,
    mut worker: Worker,
    answered: &mut u64,
) -> Option<Lost> {
    let functions = worker.started().functions;
    let max_batch = if functions.output_batch { shared.settings.max_batch } else { 1 };
    let limits = BatchLimits { max_batch, max_wait: shared.settings.max_wait };
    loop {
        let phase = *phases.borrow_and_update();
        if phase == Phase::Retired {
            worker.stop().await;
            return None;
        }
        tokio::select! {
            biased;
            changed = phases.changed() => {
                if changed.is_err() {
                    worker.stop().await;
                    return None;
                }
            }
            exit = worker.idle() => return Some(worker.bury(exit).await),
            work = shared.queue.pop(), if phase == Phase::Serving => {
                let done = match work {
                    Work::Output(first) => {
                        let batch = batch::gather(first, &shared.queue, limits, phases).await;
                        answer(shared, generation, &mut worker, batch).await
                    }
                    Work::Job(job) => run_job(&mut worker, *job).await,
                };
                match done {
                    Ok(()) => *answered += 1,
                    Err(lost) => return Some(lost),
                }
            }
        }
    }
}

/// Has the worker answer a batch, and passes the answers on.
async fn answer(shared: &Shared, generation: &Generation, worker: &mut Worker, batch: Vec<Pending>) -> Result<(), Lost> {
    if batch.is_empty() {
        return Ok(());
    }
    // Counted from here: a request that has waited long does not make its worker a late one.
    let deadline = Instant::now() + shared.settings.timeout;
    let batch_size = batch.len();
    let mut requests = Vec::with_capacity(batch_size);
    let (waiting, holds): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|pending| {
            requests.push(pending.request);
            (pending.respond, pending.hold)
        })
        .unzip();
    let answered = worker.output(requests, deadline, &*shared.host).await;
    // Before anybody hears of it, so that whoever does finds nothing left behind.
    drop(holds);
    // A client that has gone does not hear its answer.
    match answered {
        Ok(vectors) => {
            let version = generation.version();
            for (respond, vector) in waiting.into_iter().zip(vectors) {
                let _ = respond.send(Ok(Answered { vector, version, batch_size }));
            }
            Ok(())
        }
        Err(lost) => {
            let failed = match lost.exit {
                Exit::DeadlinePassed => Failed::DeadlinePassed,
                _ => Failed::Lost(lost.clone()),
            };
            for respond in waiting {
                let _ = respond.send(Err(failed.clone()));
            }
            Err(lost)
        }
    }
}

/// Has the worker run a job, and passes its outcome on. Whoever waits for it outlives the job, or no longer cares.
async fn run_job(worker: &mut Worker, mut job: PendingJob) -> Result<(), Lost> {
    job.taken_up.store(true, Ordering::SeqCst);
    if job.respond.is_closed() {
        return Ok(());
    }
    let deadline = Instant::now() + job.timeout;
    let outcome = worker.run(job.run, deadline, &*job.host, &mut job.interrupt, job.cancel_grace).await;
    let lost = outcome.as_ref().err().cloned();
    let _ = job.respond.send(outcome);
    lost.map_or(Ok(()), Err)
}

async fn retired(phases: &mut watch::Receiver<Phase>) {
    // An error means that the generation is no more, which comes to the same.
    let _ = phases.wait_for(|phase| *phase == Phase::Retired).await;
}

async fn rest(wait: Duration, phases: &mut watch::Receiver<Phase>) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = retired(phases) => {}
    }
}

/// Doubles with each failure in a row, less up to a quarter so that several workers do not start in the same moment.
fn backoff(failures: u32, longest: Duration) -> Duration {
    let doubled = FIRST_BACKOFF * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(rand::random_range(0.75..=1.0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

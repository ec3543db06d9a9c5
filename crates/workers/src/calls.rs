//! Passing work to a worker, and its answers back to those who wait.

use std::sync::atomic::Ordering;

use dunnage_protocol::{CallError, Outcome};
use dunnage_types::Vector;
use tokio::time::Instant;

use crate::batch::{Answered, Failed, Pending, PendingJob};
use crate::exit::{Exit, Lost};
use crate::generation::Generation;
use crate::shared::Shared;
use crate::wear::Wear;
use crate::worker::Worker;

/// Has the worker answer a batch, and passes the answers on.
pub(crate) async fn answer(
    shared: &Shared,
    generation: &Generation,
    worker: &mut Worker,
    wear: &mut Wear,
    batch: Vec<Pending>,
) -> Result<(), Lost> {
    if batch.is_empty() {
        return Ok(());
    }
    // Counted from here: a request that has waited long does not make its worker a late one.
    let begin = Instant::now();
    let deadline = begin + shared.settings.timeout;
    let batch_size = batch.len();
    let mut requests = Vec::with_capacity(batch_size);
    let (waiting, holds): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|pending| {
            requests.push(pending.request);
            ((pending.respond, begin.saturating_duration_since(pending.since)), pending.hold)
        })
        .unzip();
    let call = shared.pace.begin(begin);
    let answered = worker.output(requests, deadline, &*shared.host).await;
    // Before anybody hears of it, so that whoever does finds nothing left behind.
    drop(holds);
    // A client that has gone does not hear its answer.
    match answered {
        Ok(vectors) => {
            call.answered(batch_size, Instant::now());
            wear.note(batch_size as u64, vectors.iter().all(Result::is_err));
            let version = generation.version();
            for ((respond, waited), vector) in waiting.into_iter().zip(vectors) {
                let vector = vector.and_then(|vector| refuse_huge(vector, shared.settings.max_output_bytes));
                let _ = respond.send(Ok(Answered { vector, version, batch_size, waited }));
            }
            Ok(())
        }
        Err(lost) => {
            let failed = match lost.exit {
                Exit::DeadlinePassed => Failed::DeadlinePassed,
                _ => Failed::Lost(lost.clone()),
            };
            for (respond, _) in waiting {
                let _ = respond.send(Err(failed.clone()));
            }
            Err(lost)
        }
    }
}

fn refuse_huge<T: AsRef<[u8]>>(vector: Vector<T>, limit: usize) -> Result<Vector<T>, CallError> {
    let bytes = vector.bytes().as_ref().len();
    if bytes <= limit {
        return Ok(vector);
    }
    let message = format!("the output vector has {bytes} bytes; at most {limit} are allowed (`--max-output`)");
    Err(CallError::new("bad_output", message))
}

/// Has the worker run a job, and passes its outcome on. Whoever waits for it outlives the job, or no longer cares.
pub(crate) async fn run_job(worker: &mut Worker, wear: &mut Wear, mut job: PendingJob) -> Result<(), Lost> {
    job.taken_up.store(true, Ordering::SeqCst);
    if job.respond.is_closed() {
        return Ok(());
    }
    let deadline = Instant::now() + job.timeout;
    let outcome = worker.run(job.run, deadline, &*job.host, &mut job.interrupt, job.cancel_grace).await;
    if let Ok(outcome) = &outcome {
        wear.note(1, matches!(outcome, Outcome::Error(_)));
    }
    let lost = outcome.as_ref().err().cloned();
    let _ = job.respond.send(outcome);
    lost.map_or(Ok(()), Err)
}

//! Passing work to a worker, and its answers back to those who wait.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dunnage_protocol::{CallError, CallId, Outcome};
use dunnage_types::{Vector, Version};
use tokio::time::Instant;

use crate::batch::{Answered, Failed, PendingJob, Taken, Work, wanted};
use crate::exit::{Exit, Lost};
use crate::pace::Call;
use crate::shared::Shared;
use crate::wear::Wear;
use crate::worker::Worker;

/// The calls that a worker has been given and has not answered, in their order: the first is the one that runs, the others have been
/// sent ahead. Dropping it puts back what has not begun.
pub(crate) struct Calls<'a> {
    shared: &'a Shared,
    given: VecDeque<Given>,
    /// The one that runs, as the pace knows it.
    running: Option<Call<'a>>,
}

/// One call: some requests that are answered together.
struct Given {
    call: CallId,
    batch: Vec<Taken>,
}

impl<'a> Calls<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, given: VecDeque::new(), running: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The call that runs, and how many requests it has to answer.
    pub(crate) fn running(&self) -> Option<(CallId, usize)> {
        self.given.front().map(|given| (given.call, given.batch.len()))
    }

    /// When the call that runs must have been answered. Counted from when it began: a request that has waited long does not make its
    /// worker a late one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.begin() + self.shared.settings.timeout)
    }

    /// How many calls may be sent ahead now.
    pub(crate) fn room(&self, now: Instant) -> usize {
        let age = |running: &Call<'_>| self.shared.pace.ahead(self.given.len(), running.age(now));
        self.running.as_ref().map_or(0, age)
    }

    /// Gives the worker one more call, which begins when those before it are answered.
    pub(crate) fn give(&mut self, worker: &mut Worker, batch: Vec<Taken>, now: Instant) {
        if batch.is_empty() {
            return;
        }
        let timeout = self.shared.settings.timeout;
        let given = match batch.as_slice() {
            [only] => worker.give(&[&only.pending.request], now + timeout),
            many => worker.give(&many.iter().map(|taken| &taken.pending.request).collect::<Vec<_>>(), now + timeout),
        };
        match given {
            Ok(call) => {
                self.given.push_back(Given { call, batch });
                self.running.get_or_insert_with(|| self.shared.pace.begin(now));
            }
            // It fits no frame, which the worker need not suffer for.
            Err(exit) => fail(batch, &Lost { exit, last_lines: Vec::new() }),
        }
    }

    /// Passes the answers to the call that runs on to those who wait; the next one runs from now.
    pub(crate) fn answered(&mut self, vectors: Vec<Result<Vector<Bytes>, CallError>>, version: Option<Version>, now: Instant) {
        let (Some(Given { batch, .. }), Some(running)) = (self.given.pop_front(), self.running.as_mut()) else { return };
        let (begin, batch_size) = (running.begin(), batch.len());
        running.answered(batch_size, now);
        if self.given.is_empty() {
            self.running = None;
        }
        let release = |Taken { pending, .. }: Taken| {
            // Before anybody hears of it, so that whoever does finds nothing left behind.
            drop(pending.hold);
            (pending.respond, begin.saturating_duration_since(pending.since))
        };
        let waiting: Vec<_> = batch.into_iter().map(release).collect();
        for ((respond, waited), vector) in waiting.into_iter().zip(vectors) {
            let vector = vector.and_then(|vector| refuse_huge(vector, self.shared.settings.max_output_bytes));
            // A client that has gone does not hear its answer.
            let _ = respond.send(Ok(Answered { vector, version, batch_size, waited }));
        }
    }

    /// The worker has handed a call back that it has not begun. `false` if it has been given no such call.
    pub(crate) fn returned(&mut self, call: CallId) -> bool {
        let Some(place) = self.given.iter().position(|given| given.call == call) else { return false };
        self.given.remove(place).into_iter().flat_map(|given| given.batch).for_each(|taken| self.put_one_back(taken));
        if self.given.is_empty() {
            self.running = None;
        }
        true
    }

    /// The worker is lost: the call that ran has failed with it, and the others wait for another worker.
    pub(crate) fn fail(&mut self, lost: &Lost) {
        self.running = None;
        if let Some(given) = self.given.pop_front() {
            fail(given.batch, lost);
        }
        self.put_back();
    }

    /// Puts all calls back into the queue, at their old places.
    fn put_back(&mut self) {
        while let Some(given) = self.given.pop_front() {
            given.batch.into_iter().for_each(|taken| self.put_one_back(taken));
        }
    }

    fn put_one_back(&self, taken: Taken) {
        if let Some(Taken { number, pending }) = wanted(taken) {
            self.shared.queue.put_back(number, Work::Output(pending));
        }
    }
}

impl Drop for Calls<'_> {
    fn drop(&mut self) {
        // The one that runs may have had an effect already, so it is not run again.
        drop(self.given.pop_front());
        self.put_back();
    }
}

fn fail(batch: Vec<Taken>, lost: &Lost) {
    let failed = match lost.exit {
        Exit::DeadlinePassed => Failed::DeadlinePassed,
        _ => Failed::Lost(lost.clone()),
    };
    let release = |taken: Taken| {
        drop(taken.pending.hold);
        taken.pending.respond
    };
    let waiting: Vec<_> = batch.into_iter().map(release).collect();
    for respond in waiting {
        let _ = respond.send(Err(failed.clone()));
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

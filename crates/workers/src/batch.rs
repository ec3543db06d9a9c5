//! What waits for a serving worker, and how a batch of requests forms.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use dunnage_protocol::{CallError, Outcome, Request, Run};
use dunnage_types::{Vector, Version};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::exit::Lost;
use crate::generation::{Phase, Unavailable};
use crate::host::Host;
use crate::interrupt::Interrupt;
use crate::queue::Queue;

/// Something for a serving worker to do.
pub(crate) enum Work {
    /// A request for output.
    Output(Pending),
    /// A job, where there are no job workers.
    Job(Box<PendingJob>),
}

/// A job on its way to a serving worker.
pub(crate) struct PendingJob {
    pub(crate) run: Run,
    pub(crate) timeout: Duration,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) interrupt: watch::Receiver<Interrupt>,
    pub(crate) cancel_grace: Duration,
    /// Set when a worker takes it up.
    pub(crate) taken_up: Arc<AtomicBool>,
    pub(crate) respond: oneshot::Sender<Result<Outcome, Lost>>,
}

/// What a request's files need in order to stay where they are. Dropped when no worker will read them any more, which may be long after
/// the client has gone.
pub type Hold = Box<dyn Any + Send>;

/// A request on its way to a worker.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: Request,
    pub(crate) hold: Hold,
    pub(crate) deadline: Instant,
    /// When it began to wait.
    pub(crate) since: Instant,
    pub(crate) respond: oneshot::Sender<Result<Answered, Failed>>,
}

/// A request that was taken out of the queue.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Its number in the queue, where it can be put back.
    pub(crate) number: u64,
    pub(crate) pending: Pending,
}

/// A worker's answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) vector: Result<Vector<Bytes>, CallError>,
    pub(crate) version: Option<Version>,
    pub(crate) batch_size: usize,
    /// How long the request waited for its worker.
    pub(crate) waited: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failed {
    Lost(Lost),
    DeadlinePassed,
    NoWorker(Unavailable),
    ShuttingDown,
}

impl Pending {
    /// Whether somebody still waits for the answer, and there is time left for one.
    fn is_wanted(&self) -> bool {
        !self.respond.is_closed() && self.deadline > Instant::now()
    }

    /// Says that no worker was free in time. A client that has gone does not hear it.
    fn expire(self) {
        let _ = self.respond.send(Err(Failed::DeadlinePassed));
    }
}

/// How large a batch may grow, and how long it may wait to do so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) max_batch: usize,
    pub(crate) max_wait: Duration,
}

/// Forms a batch around `first`: what has queued up by now and, if asked for, what arrives within `max_wait`. Requests that
/// nobody waits for any more are dropped; the batch may therefore be empty.
///
/// Waiting ends when the workers' phase changes, so that no request which comes after that is answered by the wrong version.
pub(crate) async fn gather(
    first: Taken,
    queue: &Queue<Work>,
    limits: BatchLimits,
    phases: &mut watch::Receiver<Phase>,
) -> Vec<Taken> {
    let mut batch: Vec<_> = wanted(first).into_iter().collect();
    if limits.max_batch == 1 {
        return batch;
    }
    let patience = Instant::now() + limits.max_wait;
    let current = phases.clone();
    let fits = |work: &Work| is_output(work) && *current.borrow() == Phase::Serving;
    while batch.len() < limits.max_batch {
        let next = if limits.max_wait.is_zero() {
            queue.pop_if(fits)
        } else {
            tokio::select! {
                biased;
                Ok(()) = phases.changed() => None,
                next = tokio::time::timeout_at(patience, queue.pop_when(fits)) => next.unwrap_or(None),
            }
        };
        match next {
            Some((number, Work::Output(pending))) => batch.extend(wanted(Taken { number, pending })),
            _ => break,
        }
    }
    batch
}

pub(crate) fn is_output(work: &Work) -> bool {
    matches!(work, Work::Output(_))
}

/// The request, unless nobody waits for it any more.
pub(crate) fn wanted(taken: Taken) -> Option<Taken> {
    if taken.pending.is_wanted() {
        return Some(taken);
    }
    taken.pending.expire();
    None
}

#[cfg(test)]
mod tests {
    use dunnage_types::JsonObject;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { max_batch: 3, max_wait: Duration::ZERO };

    fn pending(name: &str, left: Duration) -> (Pending, oneshot::Receiver<Result<Answered, Failed>>) {
        let (respond, response) = oneshot::channel();
        let request = Request { request_id: name.to_owned(), files: Vec::new(), params: JsonObject::new() };
        let since = Instant::now();
        (Pending { request, hold: Box::new(()), deadline: since + left, since, respond }, response)
    }

    fn serving() -> watch::Receiver<Phase> {
        watch::Sender::new(Phase::Serving).subscribe()
    }

    fn names(batch: &[Taken]) -> Vec<&str> {
        batch.iter().map(|taken| taken.pending.request.request_id.as_str()).collect()
    }

    #[tokio::test]
    async fn a_batch_takes_what_has_queued_up_to_its_limit() {
        let queue = Queue::new(10);
        let mut waiting = Vec::new();
        for name in ["b", "c", "d"] {
            let (pending, response) = pending(name, Duration::from_secs(9));
            assert!(queue.push(Work::Output(pending)).is_ok());
            waiting.push(response);
        }
        let (first, _response) = pending("a", Duration::from_secs(9));
        assert_eq!(names(&gather(Taken { number: 0, pending: first }, &queue, LIMITS, &mut serving()).await), ["a", "b", "c"]);
        assert_eq!(queue.len(), 1);
    }

    #[tokio::test]
    async fn requests_nobody_waits_for_are_dropped() {
        let queue = Queue::new(10);
        let (late, late_response) = pending("late", Duration::ZERO);
        let (gone, _) = pending("gone", Duration::from_secs(9));
        assert!(queue.push(Work::Output(gone)).is_ok());
        assert!(gather(Taken { number: 0, pending: late }, &queue, LIMITS, &mut serving()).await.is_empty());
        assert!(matches!(late_response.await, Ok(Err(Failed::DeadlinePassed))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_stops_waiting_when_another_version_takes_over() {
        let phase = watch::Sender::new(Phase::Serving);
        let queue = Queue::new(10);
        let (first, _response) = pending("a", Duration::from_secs(99));
        let limits = BatchLimits { max_wait: Duration::from_secs(60), ..LIMITS };
        let mut phases = phase.subscribe();
        let gathering = gather(Taken { number: 0, pending: first }, &queue, limits, &mut phases);
        let begin = Instant::now();
        let (batch, ()) = tokio::join!(gathering, async { _ = phase.send_replace(Phase::Standby) });
        assert_eq!((names(&batch), begin.elapsed()), (vec!["a"], Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_others_only_when_asked_to() {
        let queue = Queue::new(10);
        let (first, _response) = pending("a", Duration::from_secs(9));
        let begin = Instant::now();
        let limits = BatchLimits { max_wait: Duration::from_millis(20), ..LIMITS };
        assert_eq!(names(&gather(Taken { number: 0, pending: first }, &queue, limits, &mut serving()).await), ["a"]);
        assert_eq!(begin.elapsed(), Duration::from_millis(20));
    }
}

//! Group commit: calls that come together share a statement.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use dunnage_types::JobId;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::error::{is_conflict, is_dead_connection, is_refusal};
use crate::StoreError;

/// How many calls of a kind may wait. Callers wait for a place behind that, each with its call in hand.
const QUEUE_LENGTH: usize = 512;
/// How many calls share a statement at most. More would make the first wait long for the last.
const GROUP_LIMIT: usize = 128;

/// A kind of call that many can make with one statement.
#[async_trait]
pub(super) trait Batch: Send + Sync + 'static {
    /// What is called for.
    type Call: Send + Sync;
    /// What a caller is told.
    type Answer: Send;
    /// Whether making the same calls again, after nobody heard how they ended, does no harm.
    const IS_REPEATABLE: bool;

    /// The job that a call is about, if two calls about the same one must not share a statement.
    fn job(call: &Self::Call) -> Option<JobId>;

    /// Makes the calls, all or none: an answer for each, in their order, or the reason why nothing was done.
    async fn run(&self, calls: &[Self::Call]) -> Result<Vec<Result<Self::Answer, StoreError>>, StoreError>;
}

/// Takes whatever calls have queued up while it was busy, makes all of them at once, and answers. So the slower the database is,
/// the more each of its commits carries. A call whose caller has gone is made all the same.
pub(super) struct Batcher<B: Batch> {
    queue: mpsc::Sender<Waiting<B>>,
}

struct Waiting<B: Batch> {
    call: B::Call,
    caller: oneshot::Sender<Result<B::Answer, StoreError>>,
}

impl<B: Batch> Batcher<B> {
    /// Starts the task that makes the calls; it ends with the batcher.
    pub(super) fn start(batch: B) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(make_until_closed(batch, receiver));
        Self { queue }
    }

    pub(super) async fn call(&self, call: B::Call) -> Result<B::Answer, StoreError> {
        let (caller, answer) = oneshot::channel();
        self.queue.send(Waiting { call, caller }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

async fn make_until_closed<B: Batch>(batch: B, mut queue: mpsc::Receiver<Waiting<B>>) {
    let mut group = Vec::with_capacity(GROUP_LIMIT);
    while queue.recv_many(&mut group, GROUP_LIMIT).await > 0 {
        for round in rounds(&mut group) {
            let (calls, callers): (Vec<_>, Vec<_>) = round.into_iter().map(|waiting| (waiting.call, waiting.caller)).unzip();
            // A panic must not end the task: all calls of the kind would fail from then on.
            let answers = AssertUnwindSafe(answers(&batch, &calls)).catch_unwind().await;
            let answers = answers.unwrap_or_else(|_| for_all(panicked(), calls.len()));
            for (caller, answer) in callers.into_iter().zip(answers) {
                // The caller may have gone.
                let _ = caller.send(answer);
            }
        }
    }
}

async fn answers<B: Batch>(batch: &B, calls: &[B::Call]) -> Vec<Result<B::Answer, StoreError>> {
    match run(batch, calls).await {
        Ok(answers) => answers,
        Err(error) if calls.len() > 1 && is_refusal(&error) => one_by_one(batch, calls).await,
        Err(error) => for_all(error, calls.len()),
    }
}

/// Once more, where that may help and does no harm.
async fn run<B: Batch>(batch: &B, calls: &[B::Call]) -> Result<Vec<Result<B::Answer, StoreError>>, StoreError> {
    match batch.run(calls).await {
        Err(error) if is_conflict(&error) || (B::IS_REPEATABLE && is_dead_connection(&error)) => batch.run(calls).await,
        outcome => outcome,
    }
}

/// One call that the database refuses must not spoil the others.
async fn one_by_one<B: Batch>(batch: &B, calls: &[B::Call]) -> Vec<Result<B::Answer, StoreError>> {
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        let answer = batch.run(std::slice::from_ref(call)).await.map(|mut answers| answers.pop());
        answers.push(answer.and_then(|answer| answer.unwrap_or_else(|| Err(ended()))));
    }
    answers
}

pub(super) fn for_all<T>(error: StoreError, callers: usize) -> Vec<Result<T, StoreError>> {
    let error = Arc::new(error);
    (0..callers).map(|_| Err(StoreError::Unavailable(Box::new(Shared(Arc::clone(&error)))))).collect()
}

/// One error that is told to several.
#[derive(Debug)]
struct Shared(Arc<StoreError>);

impl fmt::Display for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(source) => fmt::Display::fmt(source, formatter),
            None => fmt::Display::fmt(&self.0, formatter),
        }
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source().and_then(Error::source)
    }
}

/// The calls of which no two are about the same job, then those that have to wait for them, and so on; each in its order.
fn rounds<B: Batch>(group: &mut Vec<Waiting<B>>) -> Vec<Vec<Waiting<B>>> {
    let mut earlier: HashMap<JobId, usize> = HashMap::new();
    let mut rounds: Vec<Vec<Waiting<B>>> = Vec::new();
    for waiting in group.drain(..) {
        let round = B::job(&waiting.call).map_or(0, |job| {
            let next = earlier.entry(job).or_default();
            std::mem::replace(next, *next + 1)
        });
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        rounds[round].push(waiting);
    }
    rounds
}

fn panicked() -> StoreError {
    StoreError::Unavailable("a database operation panicked; the log says where".into())
}

fn ended() -> StoreError {
    StoreError::Unavailable("the store has been closed".into())
}

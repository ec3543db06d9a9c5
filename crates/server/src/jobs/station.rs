//! One worker for jobs, and the attempts that wait for it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_store::Ahead;
use dunnage_types::JobId;
use futures_util::FutureExt;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use super::pace::Pace;
use super::runner::Runner;

/// How long a job that was claimed ahead waits for its turn. Then it goes back: whoever is before it takes longer than jobs did lately.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// A worker that runs one attempt after the other, in the order in which they were lined up.
pub(super) struct Station {
    runner: tokio::sync::Mutex<Runner>,
    pace: Pace,
    line: Mutex<Line>,
    changed: Notify,
}

/// The attempts that have not left the worker yet.
struct Line {
    /// One, for whose turn it is. Closed when all who wait are to go.
    turns: Arc<Semaphore>,
    at_hand: u32,
    /// Whether nobody may be lined up behind the one that is at hand.
    is_closed: bool,
    /// What has gone wrong outside of jobs since it was last asked for.
    failure: Option<String>,
    /// How often that has happened in a row.
    failures: u32,
    /// What a job's log was last told of why it waits.
    told: Option<(JobId, String)>,
}

type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl Station {
    pub(super) fn new(runner: Runner) -> Self {
        let line =
            Line { turns: Arc::new(Semaphore::new(1)), at_hand: 0, is_closed: false, failure: None, failures: 0, told: None };
        Self { runner: runner.into(), pace: Pace::unknown(), line: line.into(), changed: Notify::new() }
    }

    /// What may be claimed now; `None` while there is enough at hand, which [`Station::changed`] ends.
    pub(super) fn room(&self) -> Option<Ahead> {
        let line = self.line();
        (!line.is_closed).then(|| room(line.at_hand, self.pace.places())).flatten()
    }

    /// Returns when there may be room again, or something has failed, since the last return.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Lines an attempt up behind those before it; behind one that `is_last`, there is no room for others.
    pub(super) fn line_up(self: &Arc<Self>, is_last: bool) -> Place {
        let mut line = self.line();
        line.at_hand += 1;
        line.is_closed |= is_last;
        let mut turn: Turn = Box::pin(Arc::clone(&line.turns).acquire_owned());
        // Asked once, it has its place among those that wait.
        if let Some(come) = turn.as_mut().now_or_never() {
            turn = Box::pin(std::future::ready(come));
        }
        Place { station: Arc::clone(self), turn, permit: None, patience: Instant::now() + PATIENCE }
    }

    /// Sends away all who wait for their turn.
    pub(super) fn send_back(&self) {
        let turns = std::mem::replace(&mut self.line().turns, Arc::new(Semaphore::new(1)));
        turns.close();
    }

    /// Notes that something outside of the jobs is wrong.
    pub(super) fn fail(&self, failure: String) {
        let mut line = self.line();
        line.failures = line.failures.saturating_add(1);
        line.failure = Some(failure);
        self.changed.notify_one();
    }

    /// Notes that all went well.
    pub(super) fn succeed(&self) {
        self.line().failures = 0;
    }

    /// What has failed since this was last asked, and how often in a row.
    pub(super) fn take_failure(&self) -> Option<(String, u32)> {
        let mut line = self.line();
        line.failure.take().map(|failure| (failure, line.failures))
    }

    /// The worker. Only for whose turn it is.
    pub(super) async fn runner(&self) -> tokio::sync::MutexGuard<'_, Runner> {
        self.runner.lock().await
    }

    /// Tells a job why it waits, unless that is what it was told last.
    pub(super) fn tell_once(&self, job: JobId, failure: &str, tell: impl FnOnce(String)) {
        let told = Some((job, failure.to_owned()));
        let mut line = self.line();
        if line.told != told {
            line.told = told;
            tell(format!("the job waits: {failure}"));
        }
    }

    /// Waits, at most for `wait`, while the worker is looked after if it is idle. Nobody may be lined up meanwhile.
    pub(super) async fn rest(&self, wait: Duration) {
        if self.line().at_hand > 0 {
            return sleep(wait).await;
        }
        let mut runner = self.runner.lock().await;
        runner.rest(wait).await;
        if !runner.is_warm() {
            self.pace.forget();
        }
    }

    /// Ends the worker.
    pub(super) async fn stop(&self) {
        self.runner.lock().await.stop().await;
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims come in batches: not before half of what may be at hand is done.
fn room(at_hand: u32, places: u32) -> Option<Ahead> {
    let has_room = at_hand == 0 || at_hand.saturating_mul(2) <= places;
    has_room.then(|| Ahead { limit: places - at_hand, is_idle: at_hand == 0 })
}

/// An attempt's place in the line. The next has its turn when this is dropped.
pub(super) struct Place {
    station: Arc<Station>,
    turn: Turn,
    permit: Option<(OwnedSemaphorePermit, Instant)>,
    patience: Instant,
}

impl Place {
    /// Waits until it is the attempt's turn; `false` if it has to go instead. May not be called again after that.
    pub(super) async fn turn(&mut self) -> bool {
        tokio::select! {
            biased;
            come = &mut self.turn => match come {
                Ok(permit) => self.permit = Some((permit, Instant::now())),
                Err(_) => return false,
            },
            () = sleep_until(self.patience) => {
                self.station.pace.forget();
                return false;
            }
        }
        true
    }

    /// Notes whether the worker will do for the next.
    pub(super) fn note(&self, is_warm: bool) {
        match &self.permit {
            Some((_, since)) if is_warm => self.station.pace.note(since.elapsed()),
            _ => self.station.pace.forget(),
        }
    }

    /// The station.
    pub(super) fn station(&self) -> &Arc<Station> {
        &self.station
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.station.line();
        line.at_hand -= 1;
        line.is_closed &= line.at_hand > 0;
        if !line.is_closed && room(line.at_hand, self.station.pace.places()).is_some() {
            self.station.changed.notify_one();
        }
    }
}

//! One worker for jobs, and the attempts that wait for it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunnage_loops::Looping;
use dunnage_store::{Ahead, ClaimedJob};
use dunnage_types::JobId;
use futures_util::FutureExt;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::attempt;
use super::pace::Pace;
use super::runner::Runner;
use crate::app::App;

/// How long a job that was claimed ahead waits for its turn. Then it goes back: whoever is before it takes longer than jobs did lately.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
/// How many attempts there may be with those whose ends are being recorded. Results that S3 takes slowly must not pile up.
const MOST_ATTEMPTS: usize = 256;

/// A worker that runs one attempt after the other, in the order in which they were lined up.
pub(super) struct Station {
    runner: tokio::sync::Mutex<Runner>,
    pace: Pace,
    line: Mutex<Line>,
    attempts: Mutex<Attempts>,
    changed: Notify,
    /// Somebody has taken a seat, so that the worker will not be idle any more.
    seated: Notify,
}

/// All that have not come to their ends, and some that have.
#[derive(Default)]
struct Attempts {
    started: Vec<Looping>,
    /// Whether no more may be started.
    is_closed: bool,
}

impl Attempts {
    fn are_too_many(&mut self) -> bool {
        if self.started.len() >= MOST_ATTEMPTS {
            self.started.retain(|attempt| !attempt.has_ended());
        }
        self.is_closed || self.started.len() >= MOST_ATTEMPTS
    }
}

/// The attempts that have not left the worker yet.
struct Line {
    /// One, for whose turn it is. Closed when all who wait are to go.
    turns: Arc<Semaphore>,
    at_hand: u32,
    /// Whether nobody may be lined up behind the one that is at hand.
    is_closed: bool,
    /// Whether an idle worker is to get what is next in the queue.
    is_claiming: bool,
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
        let line = Line {
            turns: Arc::new(Semaphore::new(1)),
            at_hand: 0,
            is_closed: false,
            is_claiming: false,
            failure: None,
            failures: 0,
            told: None,
        };
        Self {
            runner: runner.into(),
            pace: Pace::unknown(),
            line: line.into(),
            attempts: Mutex::default(),
            changed: Notify::new(),
            seated: Notify::new(),
        }
    }

    /// What is to be claimed now: nothing while there is enough at hand, which [`Station::changed`] ends, and only for an idle worker
    /// unless there `may_be_more`.
    ///
    /// An idle worker has no spare seats until [`Station::has_claimed`] is called: it may be training that is claimed, and what is
    /// submitted then has to wait for the new version.
    pub(super) fn begin_claim(&self, may_be_more: bool) -> Option<Ahead> {
        let are_too_many = self.attempts().are_too_many();
        let mut line = self.line();
        let ahead = self.room(&line).filter(|ahead| !are_too_many && (may_be_more || ahead.is_idle));
        line.is_claiming = ahead.is_some_and(|ahead| ahead.is_idle);
        ahead
    }

    /// What was claimed has been started.
    pub(super) fn has_claimed(&self) {
        self.line().is_claiming = false;
    }

    /// Whether anything would be claimed if it were there.
    pub(super) fn has_room(&self) -> bool {
        !self.attempts().are_too_many() && self.room(&self.line()).is_some()
    }

    fn room(&self, line: &Line) -> Option<Ahead> {
        (!line.is_closed).then(|| room(line.at_hand, self.pace.places())).flatten()
    }

    /// How many attempts have not left the worker yet.
    pub(super) fn at_hand(&self) -> u32 {
        self.line().at_hand
    }

    /// A seat for an attempt, if the worker is idle and nothing has been wrong with it lately. What comes while it is busy does better to be
    /// claimed together with others.
    pub(super) fn spare_seat(self: &Arc<Self>) -> Option<Seat> {
        if self.attempts().are_too_many() {
            return None;
        }
        let mut line = self.line();
        let takes_any = !line.is_closed && !line.is_claiming && line.failures == 0;
        (takes_any && line.at_hand == 0).then(|| self.sit_down(&mut line))
    }

    /// A seat for an attempt that has been claimed.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        self.sit_down(&mut self.line())
    }

    fn sit_down(self: &Arc<Self>, line: &mut Line) -> Seat {
        line.at_hand += 1;
        self.seated.notify_one();
        Seat(Arc::clone(self))
    }

    /// Starts an attempt, which was asked for at `asked`; `false` if it is too late for that.
    pub(super) fn start(self: &Arc<Self>, app: &Arc<App>, seat: Seat, claimed: ClaimedJob, asked: Instant) -> bool {
        let mut attempts = self.attempts();
        if !attempts.is_closed {
            let (own, place) = (Arc::clone(app), seat.line_up(!claimed.can_wait()));
            let run = move |beat| attempt::run(own, place, claimed, asked, beat);
            // One that panics leaves its job to be rescued.
            attempts.started.push(app.loops.start_once("attempt", run, || {}));
        }
        !attempts.is_closed
    }

    /// From now on, no attempt is started.
    pub(super) fn close(&self) {
        self.attempts().is_closed = true;
    }

    /// Waits until all attempts have come to their ends.
    pub(super) async fn ended(&self) {
        let started = std::mem::take(&mut self.attempts().started);
        for mut attempt in started {
            attempt.ended().await;
        }
    }

    /// Returns when there may be room again, or something has failed, since the last return.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
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

    /// Waits, at most for `wait`, while the worker is looked after if it is idle. Whoever takes a seat finds it at rest no more.
    pub(super) async fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while self.at_hand() == 0 && Instant::now() < until {
            tokio::select! {
                () = self.look_after_worker(until) => {}
                () = self.seated.notified() => {}
            }
        }
        sleep_until(until).await;
    }

    async fn look_after_worker(&self, until: Instant) {
        let mut runner = self.runner.lock().await;
        runner.rest(until.saturating_duration_since(Instant::now())).await;
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

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims come in batches: not before half of what may be at hand is done.
fn room(at_hand: u32, places: u32) -> Option<Ahead> {
    let has_room = at_hand == 0 || at_hand.saturating_mul(2) <= places;
    has_room.then(|| Ahead { limit: places - at_hand, is_idle: at_hand == 0 })
}

/// Counts as an attempt at hand, from before its job is claimed until it has left the worker.
pub(super) struct Seat(Arc<Station>);

impl Seat {
    /// Lines the attempt up behind those before it; behind one that `is_last`, there is no room for others.
    fn line_up(self, is_last: bool) -> Place {
        let mut line = self.0.line();
        line.is_closed |= is_last;
        let mut turn: Turn = Box::pin(Arc::clone(&line.turns).acquire_owned());
        // Asked once, it has its place among those that wait.
        if let Some(come) = turn.as_mut().now_or_never() {
            turn = Box::pin(std::future::ready(come));
        }
        drop(line);
        Place { seat: self, turn, permit: None, patience: Instant::now() + PATIENCE }
    }

    /// The station.
    pub(super) fn station(&self) -> &Arc<Station> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.at_hand -= 1;
        line.is_closed &= line.at_hand > 0;
        if !line.is_closed && room(line.at_hand, self.0.pace.places()).is_some() {
            self.0.changed.notify_one();
        }
    }
}

/// An attempt's place in the line. The next has its turn when this is dropped.
pub(super) struct Place {
    seat: Seat,
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
                self.station().pace.forget();
                return false;
            }
        }
        true
    }

    /// Notes whether the worker will do for the next.
    pub(super) fn note(&self, is_warm: bool) {
        match &self.permit {
            Some((_, since)) if is_warm => self.station().pace.note(since.elapsed()),
            _ => self.station().pace.forget(),
        }
    }

    /// The station.
    pub(super) fn station(&self) -> &Arc<Station> {
        self.seat.station()
    }
}

//! A slot keeps one serving worker alive: starts it, feeds it, and replaces it when it dies or has had its day.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dunnage_loops::Beat;
use dunnage_protocol::{Load, Role};
use dunnage_types::WorkerId;
use tokio::sync::watch;

use crate::batch::{self, BatchLimits, Work};
use crate::calls;
use crate::exit::Lost;
use crate::generation::{Generation, Phase, Unavailable};
use crate::shared::Shared;
use crate::successor::Succession;
use crate::wear::Wear;
use crate::worker::{StartError, Worker};

/// The wait before the first new start after a failure; doubled with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait between two starts while the script cannot be loaded.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// The longest wait after the loss of a worker that had loaded the script: the request it had is to blame, and others wait.
const LONGEST_BACKOFF_ONCE_LOADED: Duration = Duration::from_secs(1);
/// How long a worker may take to end, whatever has to be done to it.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How often a slot gives a sign of life while its worker has nothing to do.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How often the script is looked at while it cannot be loaded: it may have been mended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs until the generation is retired.
pub(crate) async fn run(shared: Arc<Shared>, generation: Arc<Generation>, beat: Beat) {
    let phases = generation.phases();
    let mut slot = Slot { shared, generation, phases, succession: Succession::default(), failures: 0, beat };
    slot.keep_alive().await;
    slot.beat.within(END_LIMIT);
    slot.succession.end().await;
    slot.beat.finish();
}

struct Slot {
    shared: Arc<Shared>,
    generation: Arc<Generation>,
    phases: watch::Receiver<Phase>,
    succession: Succession,
    /// How many workers in a row could not be started, or answered nothing before they died.
    failures: u32,
    beat: Beat,
}

impl Slot {
    async fn keep_alive(&mut self) {
        while *self.phases.borrow_and_update() != Phase::Retired {
            self.beat.within(self.shared.settings.load_timeout);
            let loaded_from = stamp(&self.shared.settings.script).await;
            let Some(started) = self.next_worker().await else { return };
            match started {
                Ok(worker) => {
                    let ready = Arc::clone(&self.generation).worker_loaded(worker.started().functions);
                    let mut answered = 0;
                    let lost = self.serve(worker, &mut answered).await;
                    drop(ready);
                    let Some(lost) = lost else { return };
                    self.generation.note_loss(&lost);
                    self.shared.note_loss(&lost);
                    self.failures = if answered > 0 { 1 } else { self.failures + 1 };
                    if !self.succession.is_under_way() {
                        self.beat.within(LONGEST_BACKOFF_ONCE_LOADED);
                        rest(backoff(self.failures, LONGEST_BACKOFF_ONCE_LOADED), &mut self.phases).await;
                    }
                }
                Err(error) => {
                    self.note_failed_start(&error);
                    self.beat.within(LONGEST_BACKOFF);
                    tokio::select! {
                        () = rest(backoff(self.failures, LONGEST_BACKOFF), &mut self.phases) => {}
                        () = changed(&self.shared.settings.script, loaded_from) => self.failures = 0,
                    }
                }
            }
        }
    }

    fn note_failed_start(&mut self, error: &StartError) {
        self.shared.note_failed_start(error);
        let unavailable = Unavailable { reason: error.reason(), detail: error.to_string() };
        self.generation.worker_failed(unavailable.clone());
        if *self.phases.borrow() == Phase::Serving && self.generation.ready() == 0 {
            self.shared.refuse_waiting(&unavailable);
        }
        self.failures += 1;
    }

    /// The replacement that is being loaded already, or else a new worker; `None` when the generation is retired meanwhile.
    async fn next_worker(&mut self) -> Option<Result<Worker, StartError>> {
        if self.succession.is_under_way() {
            let started = tokio::select! {
                started = self.succession.ready() => started,
                () = retired(&mut self.phases) => return None,
            };
            self.succession.taken();
            return Some(started);
        }
        tokio::select! {
            started = start(Arc::clone(&self.shared), Arc::clone(&self.generation)) => Some(started),
            () = retired(&mut self.phases) => None,
        }
    }

    /// Feeds a worker, and whichever replaces it, until one is lost, or (`None`) until the generation is retired.
    async fn serve(&mut self, mut worker: Worker, answered: &mut u64) -> Option<Lost> {
        let mut wear = Wear::new(self.shared.settings.recycling);
        loop {
            self.beat.within(BEAT_EVERY);
            let phase = *self.phases.borrow_and_update();
            if phase == Phase::Retired {
                worker.stop().await;
                return None;
            }
            tokio::select! {
                biased;
                changed = self.phases.changed() => {
                    if changed.is_err() {
                        worker.stop().await;
                        return None;
                    }
                }
                exit = worker.idle() => return Some(worker.bury(exit).await),
                successor = self.succession.ready(), if self.succession.is_under_way() => {
                    if let Some(successor) = self.accept(successor) {
                        self.succession.let_go(std::mem::replace(&mut worker, successor));
                        wear = Wear::new(self.shared.settings.recycling);
                    }
                }
                work = self.shared.queue.pop(|| self.generation.is_serving()), if phase == Phase::Serving => {
                    if let Err(lost) = self.work(&mut worker, &mut wear, work).await {
                        return Some(lost);
                    }
                    *answered += 1;
                    self.replace_if_worn_out(&worker, &mut wear);
                }
                () = tokio::time::sleep(BEAT_EVERY) => {}
            }
        }
    }

    async fn work(&mut self, worker: &mut Worker, wear: &mut Wear, work: Work) -> Result<(), Lost> {
        let settings = &self.shared.settings;
        let limit = match &work {
            Work::Output(_) => settings.max_wait.saturating_add(settings.timeout),
            Work::Job(job) => job.timeout.saturating_add(job.cancel_grace),
        };
        self.beat.within(limit.saturating_add(END_LIMIT));
        match work {
            Work::Output(first) => {
                let max_batch = if worker.started().functions.output_batch { settings.max_batch } else { 1 };
                let limits = BatchLimits { max_batch, max_wait: settings.max_wait };
                let batch = batch::gather(first, &self.shared.queue, limits, &mut self.phases).await;
                calls::answer(&self.shared, &self.generation, worker, wear, batch).await
            }
            Work::Job(job) => calls::run_job(worker, wear, *job).await,
        }
    }

    /// Has another worker loaded when this one has had its day and no other worker is being replaced; it goes on until then.
    fn replace_if_worn_out(&mut self, worker: &Worker, wear: &mut Wear) {
        if !self.succession.is_due() {
            return;
        }
        let Some(worn_out) = wear.judge(worker.pid()) else { return };
        // Whoever is worn out asks again after its next call.
        let Ok(turn) = Arc::clone(&self.shared.replacements).try_acquire_owned() else { return };
        tracing::info!(pid = worker.pid(), reason = %worn_out, "a serving worker is being replaced");
        self.succession.begin(turn, start(Arc::clone(&self.shared), Arc::clone(&self.generation)));
    }

    fn accept(&mut self, successor: Result<Worker, StartError>) -> Option<Worker> {
        match successor {
            Ok(worker) => Some(worker),
            Err(error) => {
                self.shared.note_failed_start(&error);
                self.succession.postpone();
                None
            }
        }
    }
}

async fn start(shared: Arc<Shared>, generation: Arc<Generation>) -> Result<Worker, StartError> {
    let settings = &shared.settings;
    let load = Load {
        service: settings.service.clone(),
        worker: shared.next_worker(),
        role: Role::Serving,
        script: settings.script.clone(),
        artifact: generation.artifact.clone(),
        device: settings.device.clone(),
    };
    let number: WorkerId = load.worker;
    let host = Arc::clone(&shared.host);
    let worker = Worker::start(&shared.launcher, &settings.runtime, load, settings.load_timeout, host).await?;
    tracing::info!(
        worker = %number, pid = worker.pid(), load_ms = millis(worker.started().load_time),
        version = generation.version().map(|version| version.get()), "a serving worker is ready",
    );
    Ok(worker)
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

/// Ends when the script's file is another than it was.
async fn changed(script: &Path, before: Option<SystemTime>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp(script).await;
        // A file that is just being replaced has no stamp.
        if now.is_some() && now != before {
            return;
        }
    }
}

async fn stamp(script: &Path) -> Option<SystemTime> {
    tokio::fs::metadata(script).await.ok()?.modified().ok()
}

/// Doubles with each failure in a row, less up to a quarter so that several workers do not start in the same moment.
fn backoff(failures: u32, longest: Duration) -> Duration {
    let doubled = FIRST_BACKOFF * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(rand::random_range(0.75..=1.0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_differ() {
        let longest = |failures| (0..100).map(|_| backoff(failures, LONGEST_BACKOFF)).max().unwrap_or_default();
        for failures in 1..100 {
            let (wait, doubled) = (longest(failures), FIRST_BACKOFF * 2_u32.pow((failures - 1).min(16)));
            assert!(wait <= doubled.min(LONGEST_BACKOFF) && wait >= doubled.min(LONGEST_BACKOFF).mul_f64(0.75), "{failures}");
        }
        assert_ne!(backoff(9, LONGEST_BACKOFF), backoff(9, LONGEST_BACKOFF));
    }
}

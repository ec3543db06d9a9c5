//! A slot keeps one serving worker alive: starts it, has it work, and starts another when it dies.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dunnage_loops::Beat;
use dunnage_protocol::{Load, Role};
use dunnage_types::WorkerId;
use tokio::sync::watch;

use crate::generation::{Generation, Phase, Unavailable};
use crate::shared::Shared;
use crate::shift::{Ended, Shift};
use crate::successor::Succession;
use crate::worker::{StartError, Worker};

/// The wait before the first new start after a failure; doubled with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait between two starts while the script cannot be loaded.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// The longest wait after the loss of a worker that had loaded the script: the request it had is to blame, and others wait.
const LONGEST_BACKOFF_ONCE_LOADED: Duration = Duration::from_secs(1);
/// How long a worker may take to end, whatever has to be done to it.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(30);
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
                    let shift = Shift::new(&self.shared, &self.generation, &mut self.succession, &self.beat, worker);
                    let Ended { lost, has_answered } = shift.work(&mut self.phases).await;
                    drop(ready);
                    let Some(lost) = lost else { return };
                    self.generation.note_loss(&lost);
                    self.shared.note_loss(&lost);
                    self.failures = if has_answered { 1 } else { self.failures + 1 };
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
}

/// Starts a worker of the generation.
pub(crate) async fn start(shared: Arc<Shared>, generation: Arc<Generation>) -> Result<Worker, StartError> {
    let settings = &shared.settings;
    let load = Load {
        service: settings.service.clone(),
        worker: shared.next_worker(),
        role: Role::Serving,
        script: settings.script.clone(),
        artifact: generation.artifact.clone(),
        device: settings.device.clone(),
        descriptors: true,
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

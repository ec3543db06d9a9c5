//! Keeping a loop running.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::{Beat, Loops};

/// The wait before a loop is started again for the first time; doubled with each further time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest such wait. A loop that goes on for longer than this has recovered.
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Runs the loop until it has been told to end and does.
pub(crate) async fn keep_running<F, Fut>(loops: Loops, beat: Beat, mut run: F)
where
    F: FnMut(Beat) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut failures = 0;
    beat.within(Duration::ZERO);
    loop {
        let begin = Instant::now();
        let Some(how) = ended(&beat, async { run(beat.clone()).await }).await else { return };
        failures = if begin.elapsed() > LONGEST_BACKOFF { 1 } else { failures + 1 };
        let wait = backoff(failures);
        loops.note_restart(beat.name());
        tracing::error!(name = beat.name(), how, wait_ms = millis(wait), "a background loop failed; starting it again");
        beat.failed(wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = beat.told_to_end() => return,
        }
    }
}

/// Runs it once, and calls `otherwise` if it fails.
pub(crate) async fn run_once<Fut>(loops: Loops, beat: Beat, run: impl FnOnce(Beat) -> Fut, otherwise: impl FnOnce())
where
    Fut: Future<Output = ()>,
{
    beat.within(Duration::ZERO);
    if let Some(how) = ended(&beat, run(beat.clone())).await {
        loops.note_restart(beat.name());
        tracing::error!(name = beat.name(), how, "a background loop failed, and with it what it was for");
        beat.tell_to_end();
        otherwise();
    }
}

/// How the loop failed; `None` when it has ended as it should.
async fn ended(beat: &Beat, running: impl Future<Output = ()>) -> Option<&'static str> {
    let recovers = async {
        tokio::time::sleep(LONGEST_BACKOFF).await;
        beat.recovered();
        std::future::pending::<()>().await;
    };
    // What it shares with others is behind locks, and these are taken whether a holder has panicked or not.
    let running = AssertUnwindSafe(running).catch_unwind();
    let outcome = tokio::select! {
        outcome = running => outcome,
        () = recovers => Ok(()),
    };
    match outcome {
        Ok(()) if beat.is_told_to_end() => None,
        Ok(()) => Some("it ended"),
        Err(_) => Some("it panicked"),
    }
}

/// Doubles with each failure in a row, less up to a quarter, so that loops that fail together do not start together.
fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_BACKOFF).mul_f64(rand::random_range(0.75..=1.0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

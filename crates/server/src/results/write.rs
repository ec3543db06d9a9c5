//! Writing a result, though storage is away for a moment.

use std::time::Duration;

use dunnage_files::{FileError, FileProblem};
use dunnage_store::{Finish, backoff};
use dunnage_types::{FileAddress, Job, JobError, Version};
use dunnage_workers::Interrupt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::document;
use crate::app::App;

/// How long an attempt tries to write its result. What the script has done by then may have taken long, so it is not thrown away
/// because storage is away for some minutes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);
/// The first wait before a write is repeated; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two writes.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Why a result has not been written, as far as is known: a write whose answer was lost may have gone through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwritten {
    /// The attempt was killed; nothing it has done counts.
    #[error("the attempt was ended")]
    Killed,
    /// The job is to be cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// It cannot be written by this server, now or later.
    #[error("{0}")]
    Refused(String),
    /// Storage was away for all the time that this was tried.
    #[error("{error}")]
    Away {
        /// The last failure.
        error: FileError,
        /// How long it asks to be left alone at least.
        pause: Duration,
    },
}

/// Writes what an attempt has come to, and the version it has published if any, to the object that its job names; at once if it names
/// none. The job has not ended by then: whoever reads `done` finds the object.
///
/// Each attempt writes the whole object, so that of an attempt that does not count after all is overwritten by its successor's.
///
/// # Errors
///
/// [`Unwritten`], after [`PATIENCE`] if storage is away, or as soon as the attempt is interrupted.
pub(crate) async fn write(
    app: &App,
    job: &Job,
    result: &Value,
    version: Option<Version>,
    interrupts: &watch::Receiver<Interrupt>,
) -> Result<(), Unwritten> {
    let Some(address) = &job.output_uri else { return Ok(()) };
    // It was allowed when the job was submitted, by a server that may have been told otherwise.
    let may_write = |bucket: &str, key: &str| app.config.objects.allow_output.iter().any(|place| place.holds(bucket, key));
    if !matches!(address, FileAddress::S3 { bucket, key, .. } if may_write(bucket, key)) {
        return Err(Unwritten::Refused(format!("`{address}`: this server may not write there (`--allow-output`)")));
    }
    let document = document::of(job, result, version).map_err(|error| Unwritten::Refused(format!("`{address}`: {error}")))?;
    put(interrupts, || app.files.put_result(address, document.clone())).await
}

/// Puts an object, again and again while storage is away.
async fn put<F>(interrupts: &watch::Receiver<Interrupt>, mut put_once: impl FnMut() -> F) -> Result<(), Unwritten>
where
    F: Future<Output = Result<(), FileError>>,
{
    let begin = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = tokio::select! {
            // First: what is interrupted may belong to another attempt, which writes, too.
            biased;
            interrupted = interrupted(interrupts.clone()) => return Err(interrupted),
            put = put_once() => match put {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
        };
        if !error.problem.is_transient() {
            return Err(Unwritten::Refused(error.to_string()));
        }
        let pause = pause(&error.problem);
        if begin.elapsed() >= PATIENCE {
            return Err(Unwritten::Away { error, pause });
        }
        tracing::warn!(%error, "a result could not be written; trying again");
        tokio::select! {
            () = tokio::time::sleep(wait.max(pause)) => wait = LONGEST_WAIT.min(wait * 2),
            interrupted = interrupted(interrupts.clone()) => return Err(interrupted),
        }
    }
}

fn pause(problem: &FileProblem) -> Duration {
    match problem {
        FileProblem::BreakerOpen(pause) => *pause,
        _ => Duration::ZERO,
    }
}

/// Ends when the attempt is to be killed or cancelled, and tells which.
async fn interrupted(mut interrupts: watch::Receiver<Interrupt>) -> Unwritten {
    match interrupts.wait_for(|wanted| *wanted != Interrupt::None).await.map(|wanted| *wanted) {
        Ok(Interrupt::Cancel) => Unwritten::Cancelled,
        Ok(_) => Unwritten::Killed,
        // Nobody is left who could want it.
        Err(_) => std::future::pending().await,
    }
}

impl Unwritten {
    /// What it means for the job; `None` if it is no longer this attempt's to say.
    pub(crate) fn finish(self, job: &Job) -> Option<Finish> {
        let failure = |reason: String| JobError {
            code: "output_not_written".to_owned(),
            message: format!("the result could not be written: {reason}"),
            traceback: None,
        };
        match self {
            Self::Killed => None,
            Self::Cancelled => Some(Finish::Cancelled),
            Self::Refused(reason) => Some(Finish::Failed(failure(reason))),
            Self::Away { error, pause } => {
                Some(Finish::Retry { error: failure(error.to_string()), after: backoff(job.attempt).max(pause) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::given::{ADDRESS, job};
    use super::*;

    fn failure(problem: FileProblem) -> FileError {
        FileError { address: ADDRESS.parse().unwrap(), problem }
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_written_when_storage_is_back() {
        let (_interrupt, interrupts) = watch::channel(Interrupt::None);
        let mut problems =
            vec![FileProblem::Throttled(None), FileProblem::Stalled, FileProblem::Unavailable("it answered 503".to_owned())];
        let written = put(&interrupts, || {
            let outcome = problems.pop().map_or(Ok(()), |problem| Err(failure(problem)));
            async { outcome }
        });
        assert!(written.await.is_ok());
        assert!(problems.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_further_try_can_mend_is_given_up_at_once() {
        let (_interrupt, interrupts) = watch::channel(Interrupt::None);
        for problem in [FileProblem::Denied, FileProblem::NoBucket, FileProblem::WrongRegion("eu-west-1".to_owned())] {
            let tries = Cell::new(0);
            let unwritten = put(&interrupts, || {
                tries.set(tries.get() + 1);
                async { Err(failure(problem.clone())) }
            });
            let finish = unwritten.await.unwrap_err().finish(&job());
            let Some(Finish::Failed(error)) = finish else { panic!("{finish:?}") };
            assert_eq!(error.code, "output_not_written");
            assert_eq!(error.message, format!("the result could not be written: `{ADDRESS}`: {problem}"));
            assert_eq!(tries.get(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_tried_again_when_storage_stays_away() {
        let (_interrupt, interrupts) = watch::channel(Interrupt::None);
        let begin = Instant::now();
        let pause = Duration::from_secs(40);
        let unwritten = put(&interrupts, || async { Err(failure(FileProblem::BreakerOpen(pause))) }).await.unwrap_err();
        assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < PATIENCE + 2 * pause, "{:?}", begin.elapsed());
        let finish = unwritten.finish(&job());
        let Some(Finish::Retry { error, after }) = finish else { panic!("{finish:?}") };
        assert_eq!((error.code.as_str(), after), ("output_not_written", pause));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_attempt_stops_writing_at_once() {
        for (wanted, finish) in [(Interrupt::Kill, None), (Interrupt::Cancel, Some(Finish::Cancelled))] {
            let (interrupt, interrupts) = watch::channel(Interrupt::None);
            let begin = Instant::now();
            let hanging = put(&interrupts, std::future::pending);
            let interrupting = async { interrupt.send_replace(wanted) };
            let (unwritten, _) = tokio::join!(hanging, interrupting);
            assert_eq!(unwritten.unwrap_err().finish(&job()), finish);

            let written = Cell::new(false);
            let late = put(&interrupts, || async {
                written.set(true);
                Ok(())
            });
            assert_eq!(late.await.unwrap_err().finish(&job()), finish);
            assert!(!written.get(), "nothing is written any more");
            assert_eq!(begin.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_waits_for_storage_can_be_interrupted() {
        let (interrupt, interrupts) = watch::channel(Interrupt::None);
        let begin = Instant::now();
        let away = put(&interrupts, || {
            let last = begin.elapsed() > Duration::from_mins(1);
            if last {
                interrupt.send_replace(Interrupt::Kill);
            }
            async { Err(failure(FileProblem::Throttled(None))) }
        });
        assert!(matches!(away.await, Err(Unwritten::Killed)));
        assert!(begin.elapsed() < Duration::from_mins(2), "{:?}", begin.elapsed());
    }
}

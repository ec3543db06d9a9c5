//! One attempt at a job, from claim to end.

use std::sync::Arc;
use std::time::Duration;

use dunnage_files::{FileError, ReadyFile};
use dunnage_loops::Beat;
use dunnage_protocol::{CallError, CallId, Outcome, Run};
use dunnage_store::{ClaimedJob, Finish, Lease, StoreError, backoff};
use dunnage_types::{FileAddress, Job, JobError, JobKind, JobState, LogLevel, LogSource};
use dunnage_workers::{Exit, Host, Interrupt, Line, Lost};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::host::JobHost;
use super::keeper;
use super::persistence::{Settlement, persist};
use super::recorder::Recorder;
use super::runner::Ran;
use super::station::{PATIENCE, Place};
use crate::app::App;
use crate::artifacts::UploadError;
use crate::file_problem;
use crate::problem::{Code, chain};
use crate::results;
use crate::routes::as_protocol_file;
use crate::versions::{self, PublishError};

/// A script may ask to be tried again after this time at the longest.
const LONGEST_RETRY: Duration = Duration::from_hours(24);

/// How long handing a job back is tried. A server that shuts down has no more time than that.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// How long a job is left alone whose files cannot be had because storage is away.
const OUTAGE_PAUSE: Duration = Duration::from_secs(5);

/// How an attempt came out, before the database knows of it.
enum Ending {
    /// The script returned.
    Returned(Value),
    /// The job ends or is tried again, as the store decides.
    Finish(Finish),
    /// The job goes back uncharged, for so long: it was never the job's turn, what it needs is away, or the server is about to end.
    Release(Duration),
    /// The lease is lost; nothing this attempt says counts.
    Superseded,
}

/// Runs one attempt, which was asked for at `asked`, when it is its turn at `place`, and records its end.
///
/// What goes wrong outside of the job is told to the station: no worker can be started, or the database does not answer. The job has
/// been handed back then, or will be rescued.
pub(super) async fn run(app: Arc<App>, place: Place, claimed: ClaimedJob, asked: Instant, beat: Beat) {
    let station = Arc::clone(place.station());
    let ended = if app.is_stopping() {
        release(&app, claimed.lease, Duration::ZERO, None).await
    } else {
        follow(&app, place, claimed, asked, &beat).await
    };
    match ended {
        Ok(()) => station.succeed(),
        Err(failure) => station.fail(failure),
    }
    beat.finish();
}

async fn follow(app: &Arc<App>, mut place: Place, claimed: ClaimedJob, asked: Instant, beat: &Beat) -> Result<(), String> {
    let lease = claimed.lease;
    app.events.hint(lease.job);
    let (interrupt, interrupts) = watch::channel(Interrupt::None);
    let mut underway = Underway::begin(app, lease, interrupt.clone());
    let _keeper = keeper::keep(Arc::clone(app), lease, asked, interrupt);
    let recorder = Recorder::start(Arc::clone(&app.store), app.events.clone(), lease, app.config.jobs.max_log_lines);
    let host = Arc::new(JobHost::new(Arc::clone(app), lease, claimed.job.kind, recorder.sender()));

    let ran = execute(app, &mut place, &claimed, &host, interrupts.clone(), beat).await;
    beat.within(ending_limit(app));
    let interrupted = *interrupts.borrow();
    let failure = failure_outside(&ran, interrupted);
    if let Some(reason) = failure.clone().or_else(|| outage(app, &ran)) {
        place.station().tell_once(lease.job, &reason, |message| host.say(LogLevel::Error, message));
    }
    let job = claimed.job;
    let place = leave(place, &job, failure.as_deref());
    let ending = ran.map_or(Ending::Release(Duration::ZERO), |ran| judge(app, &job, ran, interrupted, &host));
    let made_artifact = host.made_artifact();
    drop(host);
    recorder.finish().await;
    let recorded = record(app, &job, lease, ending, made_artifact, &interrupts).await;
    app.events.hint(job.id);
    underway.is_recorded = true;
    drop(place);
    recorded
}

/// Lets the next have the worker. Where that has failed, they all go back; after training, they wait for the new version.
fn leave(place: Place, job: &Job, failure: Option<&str>) -> Option<Place> {
    if let Some(failure) = failure {
        place.station().fail(failure.to_owned());
        place.station().send_back();
    }
    (job.kind == JobKind::Train).then_some(place)
}

/// How long it may take to run the script: to load it, to let it run, and to end it.
pub(super) fn running_limit(app: &App) -> Duration {
    let (jobs, load_timeout) = (&app.config.jobs, app.config.workers.load_timeout);
    load_timeout.saturating_add(jobs.timeout).saturating_add(jobs.cancel_grace)
}

/// How long it may take to record the end of an attempt: to write the result to S3, and after training to store and to load what was written.
pub(super) fn ending_limit(app: &App) -> Duration {
    let writing = if app.config.objects.allow_output.is_empty() { Duration::ZERO } else { results::PATIENCE };
    writing.saturating_add(app.artifacts.upload_patience()).saturating_add(app.config.workers.load_timeout)
}

/// An attempt that runs. When it is dropped before its end is recorded, as by a panic, nothing of it is left but the lease, which ends
/// by itself; then the job is rescued.
struct Underway<'a> {
    app: &'a App,
    lease: Lease,
    is_recorded: bool,
}

impl<'a> Underway<'a> {
    fn begin(app: &'a App, lease: Lease, interrupt: watch::Sender<Interrupt>) -> Self {
        app.running.add(lease, interrupt);
        Self { app, lease, is_recorded: false }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.app.running.remove(self.lease);
        if !self.is_recorded {
            discard(self.app, self.lease);
        }
    }
}

/// What kept the job from being run at all, though nobody had wanted it to stop.
fn failure_outside(ran: &Result<Ran, String>, interrupted: Interrupt) -> Option<String> {
    match ran {
        Err(failure) => Some(failure.clone()),
        Ok(Ran::NotStarted) if interrupted == Interrupt::None => Some("no serving worker took the job up".to_owned()),
        Ok(_) => None,
    }
}

/// Why the job's files cannot be had for now, and no others either.
fn outage(app: &App, ran: &Result<Ran, String>) -> Option<String> {
    match ran {
        Ok(Ran::Unfetched(failure)) if is_outage(app, failure) => Some(chain(failure)),
        _ => None,
    }
}

/// Whether no file could be had just now. Who finds out that S3 is still away is not charged for it either.
fn is_outage(app: &App, failure: &FileError) -> bool {
    failure.problem.is_outage() || failure.problem.is_transient() && app.files.outage().is_some()
}

/// Fetches the files and, when it is the attempt's turn, has the worker run the script. The error is a failure outside of the job.
async fn execute(
    app: &Arc<App>,
    place: &mut Place,
    claimed: &ClaimedJob,
    host: &Arc<JobHost>,
    interrupts: watch::Receiver<Interrupt>,
    beat: &Beat,
) -> Result<Ran, String> {
    beat.within(app.config.jobs.timeout.saturating_add(PATIENCE));
    let job = &claimed.job;
    let mut interrupted = interrupts.clone();
    let files = tokio::select! {
        ready = ready(app, place, &job.files) => match ready {
            Ok(files) => files,
            Err(unready) => return Ok(unready),
        },
        // Nobody waits for this job any more.
        _ = interrupted.wait_for(|wanted| *wanted != Interrupt::None) => return Ok(Ran::NotStarted),
    };
    tracing::debug!(job = %job.id, kind = %job.kind, attempt = job.attempt, "attempt begins");
    let run = Run {
        call: CallId(0),
        deadline: None,
        kind: job.kind,
        job: job.id,
        attempt: job.attempt,
        seed: job.id.seed(),
        files: files.iter().map(as_protocol_file).collect(),
        params: job.params.clone(),
    };
    beat.within(running_limit(app));
    let station = Arc::clone(place.station());
    let mut runner = station.runner().await;
    let ran = runner.run(run, claimed.active, Arc::clone(host) as Arc<dyn Host>, interrupts).await;
    place.note(runner.is_warm());
    ran
}

/// Fetches the files while the attempt waits for its turn.
async fn ready(app: &App, place: &mut Place, files: &[FileAddress]) -> Result<Vec<ReadyFile>, Ran> {
    let deadline = Instant::now() + app.config.jobs.timeout;
    let fetched = async { app.files.fetch(files, deadline).await.map_err(Ran::Unfetched) };
    let turn = async { if place.turn().await { Ok(()) } else { Err(Ran::SentBack) } };
    tokio::try_join!(fetched, turn).map(|(files, ())| files)
}

/// Decides what an attempt's outcome means for its job.
fn judge(app: &App, job: &Job, ran: Ran, interrupted: Interrupt, host: &JobHost) -> Ending {
    let cancelled = interrupted == Interrupt::Cancel;
    match ran {
        _ if interrupted == Interrupt::Kill && app.is_stopping() => Ending::Release(Duration::ZERO),
        _ if interrupted == Interrupt::Kill => Ending::Superseded,
        Ran::NotStarted | Ran::SentBack => Ending::Release(Duration::ZERO),
        Ran::Unfetched(error) => unfetched(app, job, &error, host),
        // A script that stops early because it was told to has not done its work.
        Ran::Ended(_) | Ran::Lost(_) if cancelled => Ending::Finish(Finish::Cancelled),
        Ran::Ended(Outcome::Ok(value)) => Ending::Returned(value),
        Ran::Ended(Outcome::Error(error)) => Ending::Finish(failed(job, error, host)),
        Ran::Lost(lost) => Ending::Finish(lost_worker(job, &lost, host)),
    }
}

/// What cannot be had is not had by asking again, unless the way to it was to blame. If that is closed to every file, it was not the
/// attempt's fault at all, and jobs that need none go on meanwhile.
fn unfetched(app: &App, job: &Job, failure: &FileError, host: &JobHost) -> Ending {
    if is_outage(app, failure) {
        return Ending::Release(OUTAGE_PAUSE.mul_f64(rand::random_range(0.75..=1.25)));
    }
    let code = file_problem::code(&failure.problem).as_str().to_owned();
    let error = JobError { code, message: failure.to_string(), traceback: None };
    host.say(LogLevel::Error, error.message.clone());
    if failure.problem.is_transient() {
        let after = backoff(job.attempt).max(failure.problem.retry_after().unwrap_or_default());
        Ending::Finish(Finish::Retry { error, after })
    } else {
        Ending::Finish(Finish::Failed(error))
    }
}

/// What has been trained is lost where the bucket does not take it; it can be trained again if that may pass.
fn unstored(job: &Job, failure: &FileError) -> Finish {
    let code = file_problem::code(&failure.problem).as_str().to_owned();
    let message = format!("the artifact cannot be stored in the bucket: {}", chain(failure));
    let error = JobError { code, message, traceback: None };
    if failure.problem.is_transient() { Finish::Retry { error, after: backoff(job.attempt) } } else { Finish::Failed(error) }
}

fn failed(job: &Job, error: CallError, host: &JobHost) -> Finish {
    for line in error.traceback.iter().flat_map(|traceback| traceback.lines()) {
        host.say(LogLevel::Error, line.to_owned());
    }
    if error.traceback.is_none() {
        host.say(LogLevel::Error, error.message.clone());
    }
    let retry_after = error.retry_after.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let job_error = JobError { code: error.code, message: error.message, traceback: error.traceback };
    match job_error.code.as_str() {
        "script_retry" => {
            let asked = |seconds: f64| LONGEST_RETRY.min(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_RETRY));
            let after = retry_after.map_or_else(|| backoff(job.attempt), asked);
            Finish::Retry { error: job_error, after }
        }
        "script_cancelled" => Finish::Cancelled,
        _ => Finish::Failed(job_error),
    }
}

fn lost_worker(job: &Job, lost: &Lost, host: &JobHost) -> Finish {
    let code = if lost.exit == Exit::DeadlinePassed { Code::DeadlineExceeded } else { Code::WorkerCrashed };
    host.say(LogLevel::Error, lost.to_string());
    let error = JobError { code: code.as_str().to_owned(), message: lost.to_string(), traceback: None };
    Finish::Retry { error, after: backoff(job.attempt) }
}

/// Tells the database how the attempt ended.
async fn record(
    app: &Arc<App>,
    job: &Job,
    lease: Lease,
    ending: Ending,
    made_artifact: bool,
    interrupts: &watch::Receiver<Interrupt>,
) -> Result<(), String> {
    let publishes = made_artifact && job.kind == JobKind::Train && matches!(ending, Ending::Returned(_));
    if !publishes {
        // First of all: it may be what fills the disk, so that nothing can be written.
        discard(app, lease);
    }
    let finish = match ending {
        Ending::Release(after) => return release(app, lease, after, Some(interrupts)).await,
        Ending::Superseded => {
            tracing::warn!(job = %job.id, attempt = job.attempt, "this attempt was superseded; its results do not count");
            return Ok(());
        }
        Ending::Returned(result) if publishes => match versions::publish_and_finish(app, job, lease, result, interrupts).await {
            Ok(_) => {
                ended(app, job, &Finish::Done { result: Value::Null, activate: None }).await;
                return Ok(());
            }
            Err(PublishError::Store(error)) => return after_refusal(job, error),
            Err(PublishError::Killed) => None,
            Err(PublishError::Cancelled) => Some(Finish::Cancelled),
            Err(PublishError::Unwritten(unwritten)) => unwritten.finish(job),
            Err(PublishError::Upload(UploadError::Storage(error))) => Some(unstored(job, &error)),
            Err(error) => {
                Some(Finish::Failed(JobError { code: "version_unusable".to_owned(), message: chain(&error), traceback: None }))
            }
        },
        Ending::Returned(result) => match results::write(app, job, &result, None, interrupts).await {
            Ok(()) => Some(Finish::Done { result, activate: None }),
            Err(unwritten) => unwritten.finish(job),
        },
        Ending::Finish(finish) => Some(finish),
    };
    let Some(finish) = finish else { return release(app, lease, Duration::ZERO, None).await };
    let settlement = Settlement::new(&*app.store, lease);
    match persist(interrupts, || settlement.finish(&finish)).await {
        Ok(()) => ended(app, job, &finish).await,
        Err(error) => return after_refusal(job, error),
    }
    Ok(())
}

/// Hands a job back that was claimed when the server had already begun to end. Where that fails it is rescued when its lease ends.
pub(super) async fn hand_back(app: &Arc<App>, lease: Lease) {
    if let Err(failure) = release(app, lease, Duration::ZERO, None).await {
        tracing::error!(error = failure, job = %lease.job, "a job could not be handed back");
    }
}

/// Hands a job back. If the database is away for longer than that is tried, the job is rescued when its lease ends: that is tried
/// for as long as the lease is kept, unless nobody keeps it or the server is about to end.
async fn release(app: &Arc<App>, lease: Lease, after: Duration, kept: Option<&watch::Receiver<Interrupt>>) -> Result<(), String> {
    let settlement = Settlement::new(&*app.store, lease);
    let (_nobody, never) = watch::channel(Interrupt::None);
    let kept = kept.filter(|interrupts| *interrupts.borrow() == Interrupt::None && !app.is_stopping());
    let patience = if kept.is_some() { app.config.jobs.lease } else { RELEASE_PATIENCE };
    match tokio::time::timeout(patience, persist(kept.unwrap_or(&never), || settlement.release(after))).await {
        // It was cancelled or rescued meanwhile, which is as good.
        Ok(Ok(()) | Err(StoreError::Superseded(_))) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("job `{}` could not be handed back; it is rescued when its lease ends", lease.job)),
    }
}

/// The database would not record the end. If the lease is lost another attempt will; if the database is away the job is
/// rescued when the lease ends.
fn after_refusal(job: &Job, error: StoreError) -> Result<(), String> {
    match error {
        StoreError::Superseded(_) => {
            tracing::warn!(job = %job.id, attempt = job.attempt, "this attempt was superseded; its results do not count");
            Ok(())
        }
        other => Err(chain(&other)),
    }
}

fn discard(app: &App, lease: Lease) {
    if let Err(error) = app.artifacts.discard(lease) {
        tracing::warn!(%error, job = %lease.job, "an unfinished artifact cannot be removed; the next start tries again");
    }
}

async fn ended(app: &App, job: &Job, finish: &Finish) {
    let state = match finish {
        Finish::Done { .. } => JobState::Done,
        Finish::Failed(_) => JobState::Error,
        Finish::Cancelled => JobState::Cancelled,
        Finish::Retry { .. } if job.attempt >= job.max_attempts => JobState::Error,
        Finish::Retry { error, .. } => {
            app.metrics.job_retried();
            tracing::warn!(job = %job.id, attempt = job.attempt, error = %error.message, "attempt failed; the job may be tried again");
            return;
        }
    };
    app.metrics.job_finished(job.kind, state);
    tracing::info!(job = %job.id, kind = %job.kind, attempt = job.attempt, state = %state, "job ended");
    if let Err(error) = app.files.remove_uploads(&job.files).await {
        tracing::warn!(job = %job.id, error = %chain(&error), "the job's uploads cannot be removed; retention will try again");
    }
}

impl JobHost {
    /// Puts a line of the server's own into the job's log.
    fn say(&self, level: LogLevel, message: String) {
        self.line(Line { source: LogSource::Server, level, message });
    }
}

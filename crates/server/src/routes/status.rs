//! `GET /status`: how a job is doing.

use actix_web::{HttpResponse, web};
use dunnage_types::{
    Callback, CallbackState, FileAddress, Job, JobError, JobId, JobKind, JobState, JobStatus, Progress, Timestamp, Version,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::access::Sight;
use crate::app::App;
use crate::callbacks;
use crate::problem::{Code, Problem, ProblemBody};
use crate::schemas::{self, JobIdText};

/// The query of `/status`.
#[derive(Deserialize)]
pub(crate) struct Query {
    #[serde(rename = "jobId", alias = "taskID")]
    job_id: String,
}

/// How a job is doing. Fields that have no value yet are left out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusBody {
    /// The job.
    #[schema(schema_with = schemas::job_id)]
    job_id: JobId,
    /// `running`, `done` or `error`.
    #[schema(value_type = String, example = "running")]
    status: JobStatus,
    /// `queued`, `running`, `done`, `error` or `cancelled`.
    #[schema(schema_with = schemas::job_state)]
    state: JobState,
    /// `train` or `input`.
    #[schema(schema_with = schemas::job_kind)]
    kind: JobKind,
    /// How many attempts have been started.
    attempt: u32,
    /// How many attempts may be started.
    max_attempts: u32,
    /// What the script last said of how far it has come.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
    /// What the script returned.
    #[schema(value_type = Option<Value>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// The version the job published.
    #[schema(value_type = Option<u32>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    /// The job's `Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Whether it is being cancelled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
    /// How far the job's `Callback` has come, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackBody>,
    /// The object that the job's result is written to before the job is `done`, if it has one.
    #[schema(value_type = Option<String>, example = "s3://results/gait/6f1c2a34-0000-4000-8000-000000000001.json")]
    #[serde(skip_serializing_if = "Option::is_none")]
    output_uri: Option<FileAddress>,
    /// When it was submitted.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When the last attempt began.
    #[schema(value_type = Option<String>, format = "date-time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = "date-time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

/// Why a job failed.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// A stable code, listed in `docs/errors.md`.
    code: String,
    /// One sentence.
    message: String,
    /// The script's own traceback, where it raised; only for tokens with the scope `train`. The job's log has it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<String>,
}

/// How far a callback has come.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallbackBody {
    /// Where it goes, without the query.
    #[schema(example = "https://example.com/hook")]
    url: String,
    /// `pending`, `delivered` or `failed`.
    #[schema(value_type = String, example = "pending")]
    state: CallbackState,
    /// How many deliveries have been begun.
    attempts: u32,
    /// Why the last delivery failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Tells how a job is doing.
#[utoipa::path(
    get, path = "/status", tag = "jobs",
    params(("jobId" = inline(JobIdText), Query, description = "The job. `taskID` is understood too")),
    responses(
        (status = 200, description = "How the job is doing", body = StatusBody),
        (status = "4XX", description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn status(app: web::Data<App>, sight: Sight, request: actix_web::HttpRequest) -> Result<HttpResponse, Problem> {
    let wanted = web::Query::<Query>::from_query(request.query_string());
    let wanted = wanted.map_err(|_| Problem::new(Code::JobIdMalformed, "name one job, as in `/status?jobId=…`"))?;
    let job = find(&app, &wanted.job_id).await?;
    Ok(HttpResponse::Ok().json(StatusBody::seen(job, sight)))
}

/// The job that a client's text names.
pub(crate) async fn find(app: &App, text: &str) -> Result<Job, Problem> {
    let id = parse_id(text)?;
    let job = app.store.job(id).await?;
    job.ok_or_else(|| dunnage_store::StoreError::UnknownJob(id).into())
}

pub(crate) fn parse_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|error: dunnage_types::InvalidId| Problem::new(Code::JobIdMalformed, error.to_string()))
}

impl StatusBody {
    /// A job, as far as it may be seen.
    pub(crate) fn seen(job: Job, sight: Sight) -> Self {
        let error = |JobError { code, message, traceback }| {
            let traceback = traceback.filter(|_| sight >= Sight::Tracebacks);
            ErrorBody { code, message, traceback }
        };
        Self {
            job_id: job.id,
            status: job.state.status(),
            state: job.state,
            kind: job.kind,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            progress: job.progress,
            error: job.error.map(error),
            result: job.result,
            version: job.version,
            key: job.key,
            cancel_requested: job.cancel_requested && !job.state.is_terminal(),
            callback: job.callback.map(CallbackBody::from),
            output_uri: job.output_uri,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
        }
    }
}

impl From<Job> for StatusBody {
    /// A job, for whoever may see it.
    fn from(job: Job) -> Self {
        Self::seen(job, Sight::Surface)
    }
}

impl From<Callback> for CallbackBody {
    fn from(callback: Callback) -> Self {
        let Callback { url, state, attempts, error } = callback;
        Self { url: callbacks::shown(&url).to_owned(), state, attempts, error }
    }
}

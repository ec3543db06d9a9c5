//! `POST /train` and `POST /input`: commit a job, and answer with its id.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use dunnage_files::{FileError, Upload};
use dunnage_store::{Enqueued, NewJob};
use dunnage_types::{JobId, JobKind};
use serde::Serialize;
use utoipa::ToSchema;

use super::require_function;
use crate::app::App;
use crate::callbacks;
use crate::file_problem;
use crate::jobs;
use crate::problem::{Code, Problem, ProblemBody, chain};
use crate::results;
use crate::schemas::{IdempotencyKey, JobForm};
use crate::submission::{Body, Keep, Submission};

/// The answer to a submitted job.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    /// Names the job in `/status` and `/jobs/{id}`.
    #[schema(schema_with = crate::schemas::job_id)]
    job_id: JobId,
}

/// Teaches the model.
#[utoipa::path(
    post, path = "/train", tag = "jobs", request_body(content((Body = "application/json"), (JobForm = "multipart/form-data"))),
    params(("Idempotency-Key" = inline(IdempotencyKey), Header, description = "A repeated request with the same key makes no second job")),
    responses(
        (status = 202, description = "The job is committed and will run", body = Accepted, headers(
            ("Location" = String, description = "Where the job's status is"),
        )),
        (status = "4XX", description = "The request is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "The server cannot take the job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn train(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    submit(&app, &request, payload, JobKind::Train).await
}

/// Feeds the model ordinary data in the background.
#[utoipa::path(
    post, path = "/input", tag = "jobs", request_body(content((Body = "application/json"), (JobForm = "multipart/form-data"))),
    params(("Idempotency-Key" = inline(IdempotencyKey), Header, description = "A repeated request with the same key makes no second job")),
    responses(
        (status = 202, description = "The job is committed and will run", body = Accepted, headers(
            ("Location" = String, description = "Where the job's status is"),
        )),
        (status = "4XX", description = "The request is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "The server cannot take the job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn input(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    submit(&app, &request, payload, JobKind::Input).await
}

async fn submit(
    app: &web::Data<App>,
    request: &HttpRequest,
    payload: web::Payload,
    kind: JobKind,
) -> Result<HttpResponse, Problem> {
    require_function(app, kind.as_str(), |functions| match kind {
        JobKind::Train => functions.train,
        JobKind::Input => functions.input,
    })?;
    let submission = Submission::read(app, request, payload, Keep::Durably).await?;
    let callback = submission.callback.clone().map(|url| callbacks::accept(url, &app.config.callbacks)).transpose()?;
    let id = JobId::random();
    let allowed = &app.config.objects.allow_output;
    let output_uri = submission.output_uri.as_deref().map(|uri| results::accept(uri, id, allowed)).transpose()?;
    let idempotency = submission.idempotency(request, kind)?;
    let job = NewJob {
        id,
        kind,
        files: submission.files,
        params: submission.params,
        key: submission.key,
        idempotency,
        callback,
        output_uri,
        max_attempts: app.config.jobs.max_attempts,
    };
    // In a task of its own: a client that hangs up must not part a committed job from its files.
    let enqueued = tokio::spawn(enqueue(app.clone(), job, submission.upload)).await;
    let job_id = enqueued.map_err(|error| {
        tracing::error!(%error, "submitting a job failed");
        Problem::new(Code::Internal, "the job could not be submitted; the server's log says why")
    })??;
    let location = format!("/status?jobId={job_id}");
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(Accepted { job_id }))
}

/// Commits a job, and keeps the files that came along for it: whoever runs it can read them before it exists.
async fn enqueue(app: web::Data<App>, job: NewJob, upload: Option<Upload>) -> Result<JobId, Problem> {
    let app = app.into_inner();
    let Some(upload) = upload else { return Ok(jobs::submit(&app, job).await?.id()) };
    // Before the job exists: it may be taken up at once, and its files must not move then.
    let here = app.files.share(upload).await.map_err(unshared)?;
    let files = job.files.clone();
    // When the database does not answer, the job may exist all the same. What nobody needs is swept later.
    match jobs::submit(&app, job).await? {
        Enqueued::Created(id) => {
            here.into_iter().for_each(Upload::keep);
            Ok(id)
        }
        Enqueued::Existing(id) => {
            // The files came along a second time; the job has the first.
            if let Err(error) = app.files.remove_uploads(&files).await {
                tracing::warn!(job = %id, error = %chain(&error), "files that came a second time cannot be removed; a sweep will");
            }
            Ok(id)
        }
    }
}

/// Files that the service's bucket does not take are no fault of the client's, whatever S3 has against them; and where the service keeps
/// its things is no business of clients.
fn unshared(error: FileError) -> Problem {
    tracing::error!(error = %chain(&error), "the service's bucket does not take an upload");
    let code = match file_problem::code(&error.problem) {
        Code::FileDenied | Code::BucketNotFound | Code::S3RegionWrong => Code::S3Unavailable,
        other => other,
    };
    Problem::new(code, "the files cannot be kept for the job; the server's log says why")
}

//! `/jobs/{id}`: one job, its log, and its cancellation.

use actix_web::{HttpRequest, HttpResponse, web};
use dunnage_store::Cancelled;
use dunnage_types::{FileAddress, JobState, JsonObject, LogLine};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::status::{self, StatusBody, find, parse_id};
use crate::access::Sight;
use crate::app::App;
use crate::problem::{Code, Problem, ProblemBody, chain};
use crate::schemas::JobIdText;

const MAX_LINES: u32 = 1000;

/// A job with what it was given.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobBody {
    #[serde(flatten)]
    status: StatusBody,
    /// The files it was given.
    #[schema(value_type = Vec<String>)]
    files: Vec<FileAddress>,
    /// The `Params` it was given.
    #[schema(value_type = Object)]
    params: JsonObject,
}

/// Tells everything about a job, less its log.
#[utoipa::path(
    get, path = "/jobs/{id}", operation_id = "get_job", tag = "jobs", params(("id" = inline(JobIdText), Path, description = "The job")),
    responses(
        (status = 200, description = "The job", body = JobBody),
        (status = "4XX", description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(app: web::Data<App>, id: web::Path<String>, sight: Sight) -> Result<HttpResponse, Problem> {
    let job = find(&app, &id).await?;
    let (files, params) = (job.files.clone(), job.params.clone());
    Ok(HttpResponse::Ok().json(JobBody { status: StatusBody::seen(job, sight), files, params }))
}

/// Cancels a job: at once while it waits, soon while it runs. A job that has done its work before it hears of it ends as done.
#[utoipa::path(
    delete, path = "/jobs/{id}", operation_id = "cancel_job", tag = "jobs", params(("id" = inline(JobIdText), Path, description = "The job")),
    responses(
        (status = 200, description = "The job is cancelled", body = StatusBody),
        (status = 202, description = "The job is being cancelled", body = StatusBody),
        (status = "4XX", description = "There is no such job, or it has ended", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(app: web::Data<App>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&id)?;
    let cancelled = app.store.cancel(id).await?;
    app.events.hint(id);
    let mut response = match cancelled {
        Cancelled::Requested => {
            app.running.cancel(id);
            HttpResponse::Accepted()
        }
        Cancelled::Now | Cancelled::Already(JobState::Cancelled) => HttpResponse::Ok(),
        Cancelled::Already(state) => {
            return Err(Problem::new(Code::JobFinished, format!("job `{id}` has ended as `{state}` and stays so")));
        }
    };
    let job = status::find(&app, &id.to_string()).await?;
    if cancelled == Cancelled::Now
        && let Err(error) = app.files.remove_uploads(&job.files).await
    {
        tracing::warn!(job = %id, error = %chain(&error), "the job's uploads cannot be removed; retention will try again");
    }
    Ok(response.json(StatusBody::from(job)))
}

/// The query of `/jobs/{id}/logs`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Only lines behind the one of this sequence number; the `next` of the page before.
    after: Option<u64>,
    /// At most so many, 1 to 1000; 1000 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Some lines of a job's log.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogPage {
    /// The lines, oldest first.
    #[schema(value_type = Vec<Object>)]
    lines: Vec<LogLine>,
    /// The last line's number, to go on from; the same as `after` when there are no more lines.
    next: u64,
}

/// Reads a job's log: what its script printed and logged, and what the server has to say.
#[utoipa::path(
    get, path = "/jobs/{id}/logs", operation_id = "job_logs", tag = "jobs", params(("id" = inline(JobIdText), Path, description = "The job"), LogQuery),
    responses(
        (status = 200, description = "Some lines", body = LogPage),
        (status = "4XX", description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn logs(
    app: web::Data<App>,
    id: web::Path<String>,
    sight: Sight,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = parse_id(&id)?;
    let query = web::Query::<LogQuery>::from_query(request.query_string());
    let query = query.map_err(|error| Problem::new(Code::QueryInvalid, error.to_string()))?.into_inner();
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(MAX_LINES));
    if !(1..=MAX_LINES).contains(&limit) {
        return Err(Problem::new(Code::QueryInvalid, format!("`limit` must be from 1 to {MAX_LINES}")));
    }
    let mut lines = app.store.log(id, after, limit).await?;
    let next = lines.last().map_or(after, |line| line.sequence);
    lines.retain(|line| sight.shows(line));
    Ok(HttpResponse::Ok().json(LogPage { lines, next }))
}

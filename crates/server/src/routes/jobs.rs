//! `GET /jobs`: the service's jobs, newest first.

use actix_web::{HttpRequest, HttpResponse, web};
use dunnage_store::JobFilter;
use dunnage_types::{JobKind, JobState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::status::StatusBody;
use crate::app::App;
use crate::problem::{Code, Problem, ProblemBody};
use crate::schemas;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

/// The query of `/jobs`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Only jobs in this state: `queued`, `running`, `done`, `error` or `cancelled`.
    #[param(schema_with = schemas::job_state)]
    state: Option<JobState>,
    /// Only jobs of this kind: `train` or `input`.
    #[param(schema_with = schemas::job_kind)]
    kind: Option<JobKind>,
    /// Only jobs of this `Key`.
    key: Option<String>,
    /// The `next` of the page before.
    before: Option<i64>,
    /// At most so many, 1 to 1000; 50 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Some jobs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page {
    /// The jobs, newest first.
    jobs: Vec<StatusBody>,
    /// Where the next page begins, if there is one; pass it as `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Lists jobs.
#[utoipa::path(
    get, path = "/jobs", operation_id = "list_jobs", tag = "jobs", params(Query),
    responses(
        (status = 200, description = "Some jobs", body = Page),
        (status = "4XX", description = "The query is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = web::Query::<Query>::from_query(request.query_string());
    let query = query.map_err(|error| Problem::new(Code::QueryInvalid, error.to_string()))?.into_inner();
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::new(Code::QueryInvalid, format!("`limit` must be from 1 to {MAX_LIMIT}")));
    }
    let filter = JobFilter { state: query.state, kind: query.kind, key: query.key, before: query.before, limit };
    let page = app.store.jobs(&filter).await?;
    Ok(HttpResponse::Ok().json(Page { jobs: page.jobs.into_iter().map(StatusBody::from).collect(), next: page.next }))
}

//! `GET /jobs/{id}/events`: a job, told live.

use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use dunnage_types::Job;
use serde::Deserialize;
use utoipa::IntoParams;

use super::status::find;
use crate::access::Sight;
use crate::app::App;
use crate::events::{InvalidPosition, Position};
use crate::problem::{Code, Problem, ProblemBody};
use crate::schemas::{Event, EventId, JobIdText};

/// What a client that connects again says of how far it has come.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks nginx, and what follows its example, to pass each event on as it comes.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The query of `/jobs/{id}/events`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Only lines behind the one of this sequence number. `Last-Event-ID` is stronger.
    after: Option<u64>,
}

/// Tells a job's state, progress and log as they change, as server-sent events.
///
/// Each event `state` is what `/status` answers, `progress` the script's latest, `log` one line as in `/jobs/{id}/logs`. The
/// state comes first; the terminal one comes last, and ends the stream.
#[utoipa::path(
    get, path = "/jobs/{id}/events", operation_id = "job_events", tag = "jobs",
    params(
        ("id" = inline(JobIdText), Path, description = "The job"), Query,
        ("Last-Event-ID" = inline(EventId), Header, description = "The id of the last event that was seen; the stream goes on behind it"),
    ),
    responses(
        (status = 200, description = "Events until the job has ended", body = Event, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended, and all of it has been seen"),
        (status = "4XX", description = "There is no such job or event", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams are open", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(
    app: web::Data<App>,
    id: web::Path<String>,
    sight: Sight,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let position = position(&request)?;
    let job = find(&app, &id).await?;
    let has_more = has_lines_behind(&app, &job, position).await?;
    if job.state.is_terminal() && position.state.is_terminal() && !has_more {
        return Ok(HttpResponse::NoContent().insert_header((CACHE_CONTROL, "no-store")).finish());
    }
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((ACCEL_BUFFERING, "no"))
        // A connection that was given to a stream is of no more use, and while the server ends it would lead back to it.
        .force_close();
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let place = app.events.place().ok_or_else(too_many)?;
    // A server that ends answers with a stream that ends: browsers come again after that, but never after an error.
    let (stopping, revoked) = (app.stopping(), app.access.revoked(&request));
    let over = async move {
        tokio::select! {
            () = stopping => {}
            () = revoked => {}
        }
    };
    Ok(response.streaming(app.events.stream(job, position, sight, place, over)))
}

fn position(request: &HttpRequest) -> Result<Position, Problem> {
    let query = web::Query::<Query>::from_query(request.query_string());
    let query = query.map_err(|error| Problem::new(Code::QueryInvalid, error.to_string()))?.into_inner();
    let Some(id) = request.headers().get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else {
        return Ok(Position::behind(query.after.unwrap_or(0)));
    };
    let id = String::from_utf8_lossy(id.as_bytes());
    id.parse().map_err(|error: InvalidPosition| Problem::new(Code::QueryInvalid, format!("`Last-Event-ID`: {error}")))
}

/// Whether the job's log goes on behind a position, which must be in it: nobody can have seen a line that does not exist, and
/// whoever waits behind it would miss those before.
async fn has_lines_behind(app: &App, job: &Job, position: Position) -> Result<bool, Problem> {
    let line = position.line;
    let found = app.store.log(job.id, line.saturating_sub(1), 2).await?;
    let is_there = line == 0 || found.first().is_some_and(|first| first.sequence == line);
    if !is_there {
        return Err(Problem::new(Code::QueryInvalid, format!("the log of job `{}` has no line {line}", job.id)));
    }
    Ok(found.last().is_some_and(|last| last.sequence > line))
}

fn too_many() -> Problem {
    Problem::new(Code::TooManyStreams, "poll `/status` instead, or try again later (`--max-streams` bounds how many may be open)")
}

//! `POST /output`: have the script answer now.

use std::fmt::Write;
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use dunnage_protocol::Request;
use dunnage_types::Vector;
use dunnage_workers::Served;
use futures_util::StreamExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::{as_protocol_file, require_function};
use crate::app::App;
use crate::http::awaited::Awaited;
use crate::middleware::RequestId;
use crate::problem::{Code, Problem, ProblemBody};
use crate::schemas::{Question, QuestionForm};
use crate::submission::{Keep, Submission};

/// The longest body that is passed over for the sake of its connection, in bytes.
const SKIPPED_BYTES: u64 = 64 << 10;
/// How long such a body may take to come.
const SKIP_PATIENCE: Duration = Duration::from_millis(50);

/// What an answer has around its numbers, in bytes.
const FRAME_BYTES: usize = 32;
/// What one number of an answer takes with its comma, in bytes. Few doubles need more.
const NUMBER_BYTES: usize = 20;

/// An answer of more numbers takes milliseconds to print, in which the thread would do nothing else.
const LONG_NUMBERS: usize = 32 << 10;

/// The script's answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// The numbers, each in the shortest form that reads back as the same value.
    #[schema(value_type = Vec<f64>)]
    output_vector: Vector<Bytes>,
}

/// Has the model answer now.
#[utoipa::path(
    post, path = "/output", tag = "output", request_body(content((Question = "application/json"), (QuestionForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The script's answer", body = Answer, headers(
            ("Model-Version" = String, description = "The version that answered; `none` before the first"),
            ("Server-Timing" = String, description = "Milliseconds spent on the body, the files and the model"),
        )),
        (status = "4XX", description = "The request is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "The script or the server failed", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn output(
    app: web::Data<App>,
    request: HttpRequest,
    RequestId(request_id): RequestId,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let deadline = tokio::time::Instant::now() + app.config.workers.timeout;
    let mut stages = Stages::begin();
    require_function(&app, "output", |functions| functions.output)?;
    // Before anything is spent on it. It is asked again when the request is complete.
    if let Err(refusal) = app.pool.admit(deadline) {
        skip_short(&app, &request, payload).await;
        return Err(refusal.into());
    }
    let submission = read(&app, &request, payload, deadline).await?;
    stages.end("body");
    let files = app.files.fetch(&submission.files, deadline).await?;
    stages.end("files");
    let call = Request { request_id, files: files.iter().map(as_protocol_file).collect(), params: submission.params };
    // Also if the client hangs up: a worker may be about to read them.
    let hold = Box::new((files, submission.upload));
    let served = app.pool.output(call, hold, deadline).await?;
    stages.end("model");
    app.metrics.observe_output(served.batch_size, served.waited);
    respond(served, &stages).await
}

/// Passes over a short body, so that the connection can be used again. After a long one, or one that is slow to come, it is closed,
/// as after whatever was not read to its end.
async fn skip_short(app: &App, request: &HttpRequest, payload: web::Payload) {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced <= SKIPPED_BYTES) {
        let mut body = Awaited::new(request, payload, &app.config.http.connections);
        let skipped = async { while let Some(Ok(_)) = body.next().await {} };
        // Either way the client is told the same.
        let _ = tokio::time::timeout(SKIP_PATIENCE, skipped).await;
    }
}

async fn read(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    deadline: tokio::time::Instant,
) -> Result<Submission, Problem> {
    let submission = tokio::time::timeout_at(deadline, Submission::read(app, request, payload, Keep::Briefly)).await;
    let submission =
        submission.map_err(|_| Problem::new(Code::DeadlineExceeded, "the body did not arrive in time (`--timeout`)"))??;
    if submission.key.is_some() {
        return Err(Problem::new(Code::RequestInvalid, "`Key` orders jobs; `/output` is none"));
    }
    if submission.callback.is_some() {
        return Err(Problem::new(Code::RequestInvalid, "`Callback` tells of the ends of jobs; `/output` is none"));
    }
    if submission.output_uri.is_some() {
        return Err(Problem::new(Code::RequestInvalid, "`OutputUri` is for the results of jobs; `/output` is none"));
    }
    Ok(submission)
}

async fn respond(served: Served, stages: &Stages) -> Result<HttpResponse, Problem> {
    let version = served.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let answer = Answer { output_vector: served.vector };
    let body = if answer.is_long() { answer.print_aside().await? } else { answer.print()? };
    Ok(HttpResponse::Ok()
        .insert_header(("model-version", version))
        .insert_header(("server-timing", stages.header()))
        .content_type(header::ContentType::json())
        .body(body))
}

impl Answer {
    fn is_long(&self) -> bool {
        self.output_vector.len() > LONG_NUMBERS
    }

    /// As JSON, printed where nobody else waits meanwhile.
    async fn print_aside(self) -> Result<Vec<u8>, Problem> {
        let printed = tokio::task::spawn_blocking(move || self.print()).await;
        printed.unwrap_or_else(|error| Err(Problem::new(Code::Internal, format!("the answer could not be printed: {error}"))))
    }

    /// As JSON. There is room for it from the beginning, as it would be copied again and again while it grows.
    fn print(&self) -> Result<Vec<u8>, Problem> {
        let mut body = Vec::with_capacity(FRAME_BYTES + self.output_vector.len() * NUMBER_BYTES);
        match serde_json::to_writer(&mut body, self) {
            Ok(()) => Ok(body),
            Err(error) => Err(Problem::new(Code::Internal, format!("the answer has no JSON form: {error}"))),
        }
    }
}

/// How long each stage took.
struct Stages {
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Stages {
    fn begin() -> Self {
        Self { last: Instant::now(), done: Vec::with_capacity(3) }
    }

    fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        self.done.push((name, now - self.last));
        self.last = now;
    }

    /// As the W3C's Server Timing recommendation has it.
    fn header(&self) -> String {
        self.done.iter().fold(String::with_capacity(64), |mut header, (name, took)| {
            let micros = took.as_micros();
            let comma = if header.is_empty() { "" } else { ", " };
            // A text takes what is written to it.
            let _ = write!(header, "{comma}{name};dur={}.{:03}", micros / 1000, micros % 1000);
            header
        })
    }
}

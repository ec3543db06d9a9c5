//! `GET /metrics`, for Prometheus.

use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, web};

use crate::app::App;
use crate::problem::{Code, Problem};

/// Renders every metric. While the database is away the jobs' gauges keep their last values.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, description = "Metrics in Prometheus' text format", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let backlog = app.backlog().await;
    app.metrics.take_gpus(&app.gpus.read().await);
    app.metrics.traffic().take(&app.admission);
    app.metrics.take_files(&app.files);
    app.metrics.take_loops(&app.loops);
    app.metrics.take_log(app.config.lost_log_lines.load(Ordering::Relaxed));
    app.metrics.set_event_streams(app.events.open_streams());
    let text = app.metrics.render(&app.pool.status(), backlog).map_err(|error| {
        tracing::error!(%error, "metrics cannot be rendered");
        Problem::new(Code::Internal, "the metrics cannot be rendered; the server's log says why")
    })?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

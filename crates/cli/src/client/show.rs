//! Jobs and log lines as text.

use std::time::Duration;

use dunnage_types::{JobState, JsonObject, LogLine, LogSource, Timestamp};
use serde_json::Value;

use super::answer::{Callback, Job};
use crate::text::{self, short_time};

/// `01:47:00 info     enrolled ada`; what was printed has its stream in the place of a level.
pub(crate) fn log_line(line: &LogLine) -> String {
    let at = line.at.to_string();
    let time = at.get(11..19).unwrap_or(&at);
    let word = match line.source {
        LogSource::Log | LogSource::Server => line.level.as_str(),
        printed => printed.as_str(),
    };
    format!("{time} {word:7}  {}", line.message)
}

/// How far a job has come, in a few words.
pub(crate) fn progress(job: &Job) -> String {
    let mut words = Vec::new();
    if job.state == JobState::Queued {
        words.push("queued".to_owned());
    }
    if job.attempt > 1 {
        words.push(format!("attempt {} of {}", job.attempt, job.max_attempts));
    }
    if let Some(progress) = &job.progress {
        words.extend(progress.message.clone());
        words.extend((!progress.metrics.is_empty()).then(|| metrics(&progress.metrics)));
    }
    words.join("  ")
}

/// Everything about a job, one thing a line.
pub(crate) fn details(job: &Job) -> String {
    let mut rows = vec![
        row("job", job.job_id),
        row("kind", job.kind),
        row("state", job.state),
        row("attempt", format!("{} of {}", job.attempt, job.max_attempts)),
    ];
    let mut add = |name, value: Option<String>| rows.extend(value.map(|value| row(name, value)));
    let fraction = job.progress.as_ref().and_then(|progress| progress.fraction);
    add("progress", fraction.map(percent));
    add("message", job.progress.as_ref().and_then(|progress| progress.message.clone()));
    add("metrics", job.progress.as_ref().map(|progress| metrics(&progress.metrics)).filter(|text| !text.is_empty()));
    add("key", job.key.clone());
    add("files", job.files.as_ref().map(|files| files.join(" ")));
    add("params", job.params.as_ref().filter(|params| !params.is_empty()).map(|params| Value::Object(params.clone()).to_string()));
    add("callback", job.callback.as_ref().map(callback));
    add("output", job.output_uri.clone());
    add("created", Some(job.created_at.to_string()));
    add("started", job.started_at.map(|time| time.to_string()));
    add("finished", job.finished_at.map(|time| time.to_string()));
    add("version", job.version.map(|version| version.to_string()));
    add("result", job.result.as_ref().map(Value::to_string));
    add("error", job.error.as_ref().map(|error| format!("{} (code `{}`)", error.message, error.code)));
    text::table(&rows)
}

/// `42%`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.0}%", fraction * 100.0)
}

/// How long ago that was.
pub(crate) fn age(since: Timestamp) -> String {
    short_time(between(since, Timestamp::now()))
}

/// The time from one moment to another; none if the clocks disagree.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.0 - from.0).unwrap_or(0))
}

/// `https://example.com/hook (pending, attempt 2: it answered 503)`.
fn callback(callback: &Callback) -> String {
    let Callback { url, state, attempts, error } = callback;
    let attempt = if *attempts > 0 { format!(", attempt {attempts}") } else { String::new() };
    let error = error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    format!("{url} ({state}{attempt}{error})")
}

fn metrics(metrics: &JsonObject) -> String {
    metrics.iter().map(|(name, value)| format!("{name}={}", metric(value))).collect::<Vec<_>>().join(" ")
}

/// A fraction to the digits that people look at; everything else as it is.
fn metric(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) if number == 0.0 || (0.001..1e6).contains(&number.abs()) => format!("{number:.4}"),
        Some(number) => format!("{number:.3e}"),
        None => value.to_string(),
    }
}

fn row(name: &str, value: impl ToString) -> [String; 2] {
    [name.to_owned(), value.to_string()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(extra: Value) -> Job {
        let mut object = json!({
            "jobId": "00000000-0000-4000-8000-000000000001", "kind": "train", "status": "running", "state": "running",
            "attempt": 1, "maxAttempts": 3, "createdAt": "2026-11-24T01:47:00.000Z",
        });
        object.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_log_line_tells_its_level_or_its_stream() {
        let line = |source: &str, level: &str| {
            let line = json!({"sequence": 1, "at": "2026-11-24T01:47:00.123Z", "attempt": 1, "source": source, "level": level,
                              "message": "hello"});
            log_line(&serde_json::from_value(line).unwrap())
        };
        assert_eq!(line("log", "warning"), "01:47:00 warning  hello");
        assert_eq!(line("stdout", "info"), "01:47:00 stdout   hello");
    }

    #[test]
    fn progress_is_told_in_a_few_words() {
        assert_eq!(progress(&job(json!({}))), "");
        assert_eq!(progress(&job(json!({"state": "queued"}))), "queued");
        let busy = json!({"attempt": 2, "progress": {"fraction": 0.5, "message": "epoch 3", "metrics": {"loss": 1.0 / 3.0, "rate": 1e-7, "rows": 9}}});
        assert_eq!(progress(&job(busy)), "attempt 2 of 3  epoch 3  loss=0.3333 rate=1.000e-7 rows=9");
    }

    #[test]
    fn details_leave_out_what_is_not_there() {
        let callback = json!({"url": "https://example.com/hook", "state": "pending", "attempts": 2, "error": "it answered 503"});
        let failed =
            json!({"state": "error", "error": {"code": "script_error", "message": "ValueError: no"}, "callback": callback});
        let expected = "\
job       00000000-0000-4000-8000-000000000001
kind      train
state     error
attempt   1 of 3
callback  https://example.com/hook (pending, attempt 2: it answered 503)
created   2026-11-24T01:47:00.000Z
error     ValueError: no (code `script_error`)";
        assert_eq!(details(&job(failed)), expected);
        let written = details(&job(json!({"outputUri": "s3://results/1.json"})));
        assert!(written.contains("\noutput   s3://results/1.json\n"), "{written}");
    }
}

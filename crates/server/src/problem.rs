//! Errors as clients see them: RFC 9457 problem details with a stable code.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use dunnage_store::StoreError;
use dunnage_workers::{Exit, OutputError, Refusal, RefusalCause, Unavailable};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Sight;

/// The stable codes. `docs/errors.md` lists each with what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each code's meaning stands in docs/errors.md, checked by a test")]
pub enum Code {
    RequestMalformed,
    BodyMalformed,
    JobIdMalformed,
    QueryInvalid,
    TokenMissing,
    TokenInvalid,
    HostRefused,
    ScopeMissing,
    UnknownPath,
    JobUnknown,
    VersionUnknown,
    MethodNotAllowed,
    HeadTooSlow,
    BodyTooSlow,
    JobFinished,
    VersionBad,
    FileChanged,
    BodyTooLarge,
    FileTooLarge,
    FilesTooLarge,
    TargetTooLong,
    ContentTypeUnsupported,
    RequestInvalid,
    FilesMissing,
    TooManyFiles,
    FileAddressInvalid,
    FileNotFound,
    FileNotReadable,
    FileOutsideRoot,
    FilesRootUnset,
    FileNotAllowed,
    FileDenied,
    BucketNotFound,
    FileArchived,
    FileCorrupt,
    S3RegionWrong,
    CallbackInvalid,
    CallbackUnavailable,
    OutputUriRefused,
    IdempotencyMismatch,
    HeadTooLarge,
    ScriptError,
    BadOutput,
    FunctionMissing,
    WorkerCrashed,
    QueueFull,
    Overloaded,
    TooManyConnections,
    TooManyStreams,
    WorkerUnavailable,
    ShuttingDown,
    LoopAiling,
    StoreUnavailable,
    S3Throttled,
    S3Stalled,
    FileTruncated,
    S3Unavailable,
    S3CredentialsRefused,
    CacheFull,
    CacheUnavailable,
    DeadlineExceeded,
    Internal,
}

impl Code {
    /// Every code, in the order of their status.
    pub const ALL: [Self; 62] = [
        Self::RequestMalformed,
        Self::BodyMalformed,
        Self::JobIdMalformed,
        Self::QueryInvalid,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::HostRefused,
        Self::ScopeMissing,
        Self::UnknownPath,
        Self::JobUnknown,
        Self::VersionUnknown,
        Self::MethodNotAllowed,
        Self::HeadTooSlow,
        Self::BodyTooSlow,
        Self::JobFinished,
        Self::VersionBad,
        Self::FileChanged,
        Self::BodyTooLarge,
        Self::FileTooLarge,
        Self::FilesTooLarge,
        Self::TargetTooLong,
        Self::ContentTypeUnsupported,
        Self::RequestInvalid,
        Self::FilesMissing,
        Self::TooManyFiles,
        Self::FileAddressInvalid,
        Self::FileNotFound,
        Self::FileNotReadable,
        Self::FileOutsideRoot,
        Self::FilesRootUnset,
        Self::FileNotAllowed,
        Self::FileDenied,
        Self::BucketNotFound,
        Self::FileArchived,
        Self::FileCorrupt,
        Self::S3RegionWrong,
        Self::CallbackInvalid,
        Self::CallbackUnavailable,
        Self::OutputUriRefused,
        Self::IdempotencyMismatch,
        Self::HeadTooLarge,
        Self::ScriptError,
        Self::BadOutput,
        Self::FunctionMissing,
        Self::WorkerCrashed,
        Self::QueueFull,
        Self::Overloaded,
        Self::TooManyConnections,
        Self::TooManyStreams,
        Self::WorkerUnavailable,
        Self::ShuttingDown,
        Self::LoopAiling,
        Self::StoreUnavailable,
        Self::S3Throttled,
        Self::S3Stalled,
        Self::FileTruncated,
        Self::S3Unavailable,
        Self::S3CredentialsRefused,
        Self::CacheFull,
        Self::CacheUnavailable,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// The code, its status, and a title for people.
    #[must_use]
    pub fn parts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::RequestMalformed => ("request_malformed", 400, "The request cannot be read"),
            Self::BodyMalformed => ("body_malformed", 400, "The body cannot be read"),
            Self::JobIdMalformed => ("job_id_malformed", 400, "This is no job id"),
            Self::QueryInvalid => ("query_invalid", 400, "The query cannot be read"),
            Self::TokenMissing => ("token_missing", 401, "A token is needed"),
            Self::TokenInvalid => ("token_invalid", 401, "The token is not known"),
            Self::HostRefused => ("host_refused", 403, "This request came from another site"),
            Self::ScopeMissing => ("scope_missing", 403, "The token does not allow this"),
            Self::UnknownPath => ("unknown_path", 404, "There is nothing at this path"),
            Self::JobUnknown => ("job_unknown", 404, "There is no such job"),
            Self::VersionUnknown => ("version_unknown", 404, "There is no such version"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "This path does not take this method"),
            Self::HeadTooSlow => ("head_too_slow", 408, "The request did not come in time"),
            Self::BodyTooSlow => ("body_too_slow", 408, "The body did not come in time"),
            Self::JobFinished => ("job_finished", 409, "The job has ended"),
            Self::VersionBad => ("version_bad", 409, "The version cannot serve"),
            Self::FileChanged => ("file_changed", 409, "A file changed while it was read"),
            Self::BodyTooLarge => ("body_too_large", 413, "The body is too large"),
            Self::FileTooLarge => ("file_too_large", 413, "A file is too large"),
            Self::FilesTooLarge => ("files_too_large", 413, "The files are too large together"),
            Self::TargetTooLong => ("target_too_long", 414, "The path is too long"),
            Self::ContentTypeUnsupported => ("content_type_unsupported", 415, "The body has another type than is understood"),
            Self::RequestInvalid => ("request_invalid", 422, "The request does not make sense"),
            Self::FilesMissing => ("files_missing", 422, "The request names no files"),
            Self::TooManyFiles => ("too_many_files", 422, "The request names too many files"),
            Self::FileAddressInvalid => ("file_address_invalid", 422, "A file's address is not understood"),
            Self::FileNotFound => ("file_not_found", 422, "A file does not exist"),
            Self::FileNotReadable => ("file_not_readable", 422, "A file cannot be read"),
            Self::FileOutsideRoot => ("file_outside_root", 422, "A file lies outside of the files root"),
            Self::FilesRootUnset => ("files_root_unset", 422, "Local files are not served"),
            Self::FileNotAllowed => ("file_not_allowed", 422, "A file is not in a bucket that is served"),
            Self::FileDenied => ("file_denied", 422, "S3 denies access to a file"),
            Self::BucketNotFound => ("bucket_not_found", 422, "A bucket does not exist"),
            Self::FileArchived => ("file_archived", 422, "A file is archived"),
            Self::FileCorrupt => ("file_corrupt", 422, "A file does not fit its checksum"),
            Self::S3RegionWrong => ("s3_region_wrong", 422, "A bucket lies in another region"),
            Self::CallbackInvalid => ("callback_invalid", 422, "The callback's URL may not be used"),
            Self::CallbackUnavailable => ("callback_unavailable", 422, "Callbacks are not served"),
            Self::OutputUriRefused => ("output_uri_refused", 422, "The result may not be written there"),
            Self::IdempotencyMismatch => ("idempotency_mismatch", 422, "The idempotency key was used for another request"),
            Self::HeadTooLarge => ("head_too_large", 431, "The head of the request is too large"),
            Self::ScriptError => ("script_error", 500, "The script raised an error"),
            Self::BadOutput => ("bad_output", 500, "The script's output is no vector of numbers"),
            Self::FunctionMissing => ("function_missing", 501, "The script lacks the function"),
            Self::WorkerCrashed => ("worker_crashed", 502, "The worker died"),
            Self::QueueFull => ("queue_full", 503, "Too many requests are waiting"),
            Self::Overloaded => ("overloaded", 503, "The request would not be answered in time"),
            Self::TooManyConnections => ("too_many_connections", 503, "Too many connections are open"),
            Self::TooManyStreams => ("too_many_streams", 503, "Too many streams are open"),
            Self::WorkerUnavailable => ("worker_unavailable", 503, "No worker is ready"),
            Self::ShuttingDown => ("shutting_down", 503, "The server is shutting down"),
            Self::LoopAiling => ("loop_ailing", 503, "Part of the server stands still"),
            Self::StoreUnavailable => ("store_unavailable", 503, "The database is not available"),
            Self::S3Throttled => ("s3_throttled", 503, "S3 asks to slow down"),
            Self::S3Stalled => ("s3_stalled", 503, "S3 stopped sending"),
            Self::FileTruncated => ("file_truncated", 503, "A file arrived in part only"),
            Self::S3Unavailable => ("s3_unavailable", 503, "S3 is not available"),
            Self::S3CredentialsRefused => ("s3_credentials_refused", 503, "S3 does not accept the server's credentials"),
            Self::CacheFull => ("cache_full", 503, "The cache is full of files in use"),
            Self::CacheUnavailable => ("cache_unavailable", 503, "The cache's disk failed"),
            Self::DeadlineExceeded => ("deadline_exceeded", 504, "The request took too long"),
            Self::Internal => ("internal", 500, "The server failed"),
        }
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.parts().0
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::QueueFull | Self::Overloaded | Self::CacheFull | Self::TooManyConnections => Some(Duration::from_secs(1)),
            other if other.parts().1 == 503 => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    allow: Option<&'static str>,
    /// When to try again, where that is known better than by the code.
    retry_after: Option<Duration>,
    /// What is told instead of the detail where reasons may not be seen.
    outline: Option<Box<str>>,
    /// The script's own traceback.
    traceback: Option<Box<str>>,
    /// How a token is asked for.
    challenge: Option<Box<str>>,
}

/// The body of an error, `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProblemBody {
    /// `urn:dunnage:error:` and the code.
    #[schema(example = "urn:dunnage:error:file_not_found")]
    r#type: String,
    /// What the code means, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What went wrong with this request.
    detail: String,
    /// A stable code, listed in `docs/errors.md`.
    #[schema(example = "file_not_found")]
    code: &'static str,
    /// The path that was asked for, if the request could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// The request's id, also in the header `X-Request-Id` and in the server's log.
    request_id: String,
    /// The script's own traceback, where it raised; only for tokens with the scope `train`.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<String>,
}

impl Problem {
    /// A problem with a sentence about this very request. The sentence is shown to the client.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail, allow: None, retry_after: None, outline: None, traceback: None, challenge: None }
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("use one of {allowed}");
        Self { allow: Some(allowed), ..Self::new(Code::MethodNotAllowed, detail) }
    }

    /// There is nothing at the path that was asked for.
    pub(crate) fn unknown_path() -> Self {
        Self::new(Code::UnknownPath, "see `/openapi.json` for what there is")
    }

    /// The same, with a better guess than its code's of when to try again.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The same, with `outline` instead of its detail for those who may not see reasons.
    pub(crate) fn outline(self, outline: impl Into<Box<str>>) -> Self {
        Self { outline: Some(outline.into()), ..self }
    }

    /// The same, with the script's traceback for those who may see it.
    pub(crate) fn traceback(self, traceback: Option<String>) -> Self {
        Self { traceback: traceback.map(String::into_boxed_str), ..self }
    }

    /// The same, asking for a token by the header `WWW-Authenticate`.
    pub(crate) fn challenge(self, challenge: impl Into<Box<str>>) -> Self {
        Self { challenge: Some(challenge.into()), ..self }
    }

    /// Whether this is one of many that an overload brings, and no event of its own.
    pub(crate) fn is_refusal_under_load(&self) -> bool {
        matches!(self.code, Code::QueueFull | Code::Overloaded)
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What went wrong with this very request.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer to `request`, with everything that a client wants to know and this one may.
    pub(crate) fn respond(&self, request: &HttpRequest, request_id: &str, sight: Sight) -> HttpResponse {
        self.respond_to(request.path(), request_id, sight)
    }

    /// The same, to a request for `path` of which no more is known.
    pub(crate) fn respond_to(&self, path: &str, request_id: &str, sight: Sight) -> HttpResponse {
        let mut response = self.builder();
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        response.body(self.body(Some(path), request_id, sight))
    }

    /// The body of an answer; what was asked for, if that is known, and what may be seen of the reasons.
    pub(crate) fn body(&self, instance: Option<&str>, request_id: &str, sight: Sight) -> String {
        let (code, status, title) = self.code.parts();
        let body = ProblemBody {
            r#type: format!("urn:dunnage:error:{code}"),
            title,
            status,
            detail: self.outline.as_deref().filter(|_| sight < Sight::Reasons).unwrap_or(&self.detail).to_owned(),
            code,
            instance: instance.filter(|path| !path.is_empty()).map(str::to_owned),
            request_id: request_id.to_owned(),
            traceback: self.traceback.as_deref().filter(|_| sight >= Sight::Tracebacks).map(str::to_owned),
        };
        // Strings and numbers always have a JSON form.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// When to try again, in whole seconds and never too early.
    pub(crate) fn retry_after_secs(&self) -> Option<String> {
        let wait = self.retry_after.or_else(|| self.code.retry_after())?;
        Some(wait.as_secs_f64().ceil().to_string())
    }

    fn builder(&self) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(wait) = self.retry_after_secs() {
            response.insert_header((header::RETRY_AFTER, wait));
        }
        if let Some(allowed) = self.allow {
            response.insert_header((header::ALLOW, allowed));
        }
        if let Some(challenge) = self.challenge.as_deref() {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if self.code == Code::BodyTooLarge {
            // The rest of the body is not read; nothing more can come over this connection.
            response.force_close();
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.parts().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Only a carrier: the middleware that knows the request writes the body.
    fn error_response(&self) -> HttpResponse {
        let mut response = self.builder().finish();
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::UnknownJob(_) => Code::JobUnknown,
            StoreError::UnknownVersion(_) => Code::VersionUnknown,
            StoreError::BadVersion(_) => Code::VersionBad,
            StoreError::IdempotencyMismatch => Code::IdempotencyMismatch,
            StoreError::Unavailable(source) => {
                tracing::error!(%source, "the database is not available");
                return Self::new(
                    Code::StoreUnavailable,
                    "the database did not answer; try again, with the same `Idempotency-Key` if that was a submit",
                );
            }
            other => {
                tracing::error!(error = %chain(other), "a request failed in the store");
                return Self::new(Code::Internal, "the server failed; its log says why");
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<OutputError> for Problem {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Script(error) => {
                let code = match error.code.as_str() {
                    "bad_output" => Code::BadOutput,
                    "function_missing" => Code::FunctionMissing,
                    _ => Code::ScriptError,
                };
                if let Some(traceback) = &error.traceback {
                    tracing::warn!(error = %error.message, traceback, "the script raised an error");
                }
                Self::new(code, error.message).traceback(error.traceback)
            }
            OutputError::Lost(lost) if lost.exit == Exit::DeadlinePassed => Self::deadline(),
            OutputError::Lost(lost) => Self::new(Code::WorkerCrashed, lost.to_string()),
            OutputError::DeadlinePassed => Self::deadline(),
            OutputError::Refused(refusal) => Self::refused(&refusal),
            OutputError::NoWorker(unavailable) => Self::no_worker(unavailable),
            OutputError::ShuttingDown => Self::new(Code::ShuttingDown, "the server is about to end; try another replica"),
        }
    }
}

impl Problem {
    /// No worker is ready. Its word is for all, the rest may tell of the inside.
    pub(crate) fn no_worker(unavailable: Unavailable) -> Self {
        let Unavailable { reason, detail } = unavailable;
        let outline = format!("the script cannot be loaded (`{reason}`); the server's log says more");
        Self::new(Code::WorkerUnavailable, detail).outline(outline)
    }

    /// Too many requests wait for a worker.
    fn refused(refusal: &Refusal) -> Self {
        let (code, detail) = match refusal.cause {
            RefusalCause::QueueFull => (Code::QueueFull, "try again later (`--max-queue` bounds how many may wait)"),
            RefusalCause::QueueWait => (Code::Overloaded, "try again later (`--max-queue-wait` bounds how long requests wait)"),
            RefusalCause::Deadline => (Code::Overloaded, "try again later: those before it take up its time (`--timeout`)"),
        };
        Self::new(code, detail).retry_after(refusal.retry_after)
    }

    fn deadline() -> Self {
        Self::new(Code::DeadlineExceeded, "the request was not answered in time (`--timeout`)")
    }
}

/// An error and its causes in one line, for logs.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = include_str!("../../../docs/errors.md");

    #[test]
    fn every_code_is_documented_with_its_status() {
        for code in Code::ALL {
            let (name, status, _) = code.parts();
            assert!(DOCUMENTED.contains(&format!("| `{name}` | {status} |")), "docs/errors.md lacks `{name}` with status {status}");
        }
    }

    #[test]
    fn every_documented_status_code_exists() {
        let rows = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        for (name, _) in rows.filter(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit())) {
            assert!(Code::ALL.iter().any(|code| code.as_str() == name), "docs/errors.md has the unknown code `{name}`");
        }
    }
}

//! What clients send to `/train`, `/input` and `/output`: a JSON object, or a form with the files themselves.

mod body;
mod form;

use actix_multipart::Multipart;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, web};
use bytes::BytesMut;
use dunnage_files::Upload;
use dunnage_store::Idempotency;
use dunnage_types::{FileAddress, JobKind, JsonObject};
use futures_util::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) use self::body::{Body, parse};
use self::body::{clip, parse_address};
pub(crate) use self::form::FormLimits;
use crate::app::App;
use crate::http::awaited::{Awaited, is_too_slow};
use crate::problem::{Code, Problem};

/// The longest `Key` and `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// How deeply `Params` may be nested, itself included: as deeply as runtimes need to read.
const MAX_PARAMS_DEPTH: usize = 100;

/// A request, read and checked.
pub(crate) struct Submission {
    pub(crate) files: Vec<FileAddress>,
    pub(crate) params: JsonObject,
    pub(crate) key: Option<String>,
    /// As it was given; whether it is one is for [`accept`](crate::callbacks::accept) to say.
    pub(crate) callback: Option<String>,
    /// As it was given; whether it may be one is for [`accept`](crate::results::accept) to say.
    pub(crate) output_uri: Option<String>,
    /// The files that came along; removed with this value unless they are kept.
    pub(crate) upload: Option<Upload>,
    digest: Sha256,
}

/// What becomes of uploaded files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// They must outlive a crash: a job will need them.
    Durably,
    /// They are needed for this request only.
    Briefly,
}

impl Submission {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// A [`Problem`] that says what is wrong with it. Nothing it brought along is left on the disk.
    pub(crate) async fn read(app: &App, request: &HttpRequest, payload: web::Payload, keep: Keep) -> Result<Self, Problem> {
        let limits = &app.config.http;
        refuse_encoded(request.headers())?;
        let payload = Awaited::new(request, payload, &limits.connections);
        let submission = match content_type(request.headers()).as_str() {
            "application/json" => {
                let bytes = read_whole(request, payload, limits.max_body_bytes).await?;
                Self::from_body(parse(&bytes)?)?
            }
            "multipart/form-data" => {
                refuse_announced(request, limits.max_upload_bytes, "--max-upload")?;
                let form = Multipart::new(request.headers(), payload);
                let upload = app.files.uploads().begin().map_err(disk_problem)?;
                Self::from_form(upload, form, FormLimits::of(limits), keep).await?
            }
            other => return Err(unsupported(other)),
        };
        submission.checked(limits.max_files)
    }

    /// The client's `Idempotency-Key` for this request, if it sent one.
    ///
    /// # Errors
    ///
    /// A [`Problem`] if the key is unusable.
    pub(crate) fn idempotency(&self, request: &HttpRequest, kind: JobKind) -> Result<Option<Idempotency>, Problem> {
        let mut keys = request.headers().get_all("idempotency-key");
        let Some(key) = keys.next() else { return Ok(None) };
        if keys.next().is_some() {
            return Err(Problem::new(Code::RequestInvalid, "the request has `Idempotency-Key` twice"));
        }
        let invalid = || Problem::new(Code::RequestInvalid, "`Idempotency-Key` wants 1 to 255 visible ASCII characters");
        let key = key.to_str().map_err(|_| invalid())?;
        if !is_key(key) {
            return Err(invalid());
        }
        let mut digest = self.digest.clone();
        digest.update(kind.as_str());
        // What has come as JSON always has a JSON form.
        digest.update(serde_json::to_vec(&(&self.params, &self.key)).unwrap_or_default());
        if let Some(callback) = &self.callback {
            digest.update(serde_json::to_vec(callback).unwrap_or_default());
        }
        if let Some(output_uri) = &self.output_uri {
            digest.update(serde_json::to_vec(&("OutputUri", output_uri)).unwrap_or_default());
        }
        Ok(Some(Idempotency { key: key.to_owned(), digest: digest.finalize().to_vec() }))
    }

    pub(crate) fn from_body(body: Body) -> Result<Self, Problem> {
        let mut digest = Sha256::new();
        let files = body.files.iter().map(|text| parse_address(text)).collect::<Result<Vec<_>, _>>()?;
        for address in &body.files {
            digest.update(address);
            digest.update([0]);
        }
        let Body { params, key, callback, output_uri, .. } = body;
        Ok(Self { files, params, key, callback, output_uri, upload: None, digest })
    }

    /// The request, unless it names too few files or too many, or a `Key` that is none.
    pub(crate) fn checked(self, max_files: usize) -> Result<Self, Problem> {
        if self.files.is_empty() {
            return Err(Problem::new(Code::FilesMissing, "`Files` is empty; name or upload at least one file"));
        }
        if self.files.len() > max_files {
            return Err(too_many(max_files));
        }
        if self.key.as_deref().is_some_and(|key| !is_key(key)) {
            return Err(Problem::new(Code::RequestInvalid, "`Key` wants 1 to 255 visible ASCII characters"));
        }
        // A worker is not given what its runtime need not be able to read.
        if !self.params.values().all(|value| nests_at_most(value, MAX_PARAMS_DEPTH - 1)) {
            return Err(Problem::new(Code::BodyMalformed, format!("`Params` may be nested {MAX_PARAMS_DEPTH} deep")));
        }
        Ok(self)
    }
}

fn nests_at_most(value: &Value, depth: usize) -> bool {
    let inside = |value| nests_at_most(value, depth - 1);
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(inside),
        Value::Object(fields) => depth > 0 && fields.values().all(inside),
        _ => true,
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// The media type without its parameters, in lower case; empty when there is none.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn unsupported(found: &str) -> Problem {
    let found = if found.is_empty() { "none".to_owned() } else { format!("`{}`", clip(found)) };
    let detail = format!(
        "the content type must be `application/json` or `multipart/form-data`, found {found} (with curl, use `--json` or `-F`)"
    );
    Problem::new(Code::ContentTypeUnsupported, detail)
}

fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    if is_encoded(headers) {
        return Err(Problem::new(Code::ContentTypeUnsupported, "compressed bodies are not understood; send the body as it is"));
    }
    Ok(())
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// Refuses a body that says itself that it is too long, before a byte of it is read.
fn refuse_announced(request: &HttpRequest, limit: u64, flag: &str) -> Result<(), Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > limit) { Err(too_large(limit, flag)) } else { Ok(()) }
}

fn too_large(limit: u64, flag: &str) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("a body of this kind may have {limit} bytes (`{flag}`)"))
}

fn too_many(limit: usize) -> Problem {
    Problem::new(Code::TooManyFiles, format!("a request may name {limit} files (`--max-files`)"))
}

async fn read_whole(request: &HttpRequest, mut payload: Awaited, limit: usize) -> Result<BytesMut, Problem> {
    refuse_announced(request, limit as u64, "--max-body")?;
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| payload_problem(&error))?;
        if body.len() + chunk.len() > limit {
            return Err(too_large(limit as u64, "--max-body"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn payload_problem(error: &PayloadError) -> Problem {
    if is_too_slow(error) {
        return Problem::new(Code::BodyTooSlow, "the body came too slowly (`--body-grace` and `--min-body-rate`)");
    }
    Problem::new(Code::BodyMalformed, format!("the body could not be received: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn disk_problem(error: std::io::Error) -> Problem {
    tracing::error!(%error, "an upload cannot be kept");
    Problem::new(Code::Internal, "the upload could not be kept; the server's log says why")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn code(body: &[u8]) -> &'static str {
        parse(body)
            .and_then(Submission::from_body)
            .and_then(|submission| submission.checked(3))
            .map_or_else(|problem| problem.code().as_str(), |_| "accepted")
    }

    #[test]
    fn bodies_are_told_apart() {
        let deep = format!("{{\"Files\":[\"s3://abc/k\"],\"Params\":{{\"a\":{}}}}}", "[".repeat(100_000));
        let cases: &[(&[u8], &str)] = &[
            (b"{\"Files\":[\"s3://abc/k\"]}", "accepted"),
            (b"{\"files\":[\"s3://abc/k\"],\"Params\":{\"a\":1},\"Key\":\"k\"}", "accepted"),
            (b"", "body_malformed"),
            (b"  ", "body_malformed"),
            (b"{", "body_malformed"),
            (b"{\"Files\":[\"s3://abc/k\"]} x", "body_malformed"),
            (b"\xef\xbb\xbf{\"Files\":[\"s3://abc/k\"]}", "body_malformed"),
            (b"{\"Files\":[\"\xff\"]}", "body_malformed"),
            (b"{\"Files\":[\"\\ud800\"]}", "body_malformed"),
            (b"{\"Files\":[\"s3://abc/k\"],\"Params\":{\"a\":NaN}}", "body_malformed"),
            (b"{\"Files\":[\"s3://abc/k\"],\"Params\":{\"a\":1e999}}", "body_malformed"),
            (b"{\"Files\":[\"s3://abc/k\"],\"Files\":[]}", "body_malformed"),
            (b"{\"Files\":[\"s3://abc/k\"],\"files\":[]}", "body_malformed"),
            (deep.as_bytes(), "body_malformed"),
            (b"null", "request_invalid"),
            (b"3", "request_invalid"),
            (b"[[\"s3://abc/k\"]]", "request_invalid"),
            (b"{\"Files\":\"s3://abc/k\"}", "request_invalid"),
            (b"{\"Files\":[3]}", "request_invalid"),
            (b"{\"Files\":[[\"s3://abc/k\"]]}", "request_invalid"),
            (b"{\"Files\":null}", "request_invalid"),
            (b"{\"Files\":[\"s3://abc/k\"],\"Params\":[]}", "request_invalid"),
            (b"{\"Files\":[\"s3://abc/k\"],\"Parms\":{}}", "request_invalid"),
            (b"{\"Files\":[\"s3://abc/k\"],\"Key\":\"\"}", "request_invalid"),
            (b"{\"Files\":[\"s3://abc/k\"],\"OutputUri\":\"s3://abc/\"}", "accepted"),
            (b"{\"Files\":[\"s3://abc/k\"],\"OutputUri\":3}", "request_invalid"),
            (b"{}", "files_missing"),
            (b"{\"Files\":[]}", "files_missing"),
            (b"{\"Files\":[\"s3://abc/k\",\"s3://abc/k\",\"s3://abc/k\",\"s3://abc/k\"]}", "too_many_files"),
            (b"{\"Files\":[\"http://abc/k\"]}", "file_address_invalid"),
            (b"{\"Files\":[\"upload:8c8b8a53-5c3c-4a2c-9d0a-4d1f0e6e7a01/0-x\"]}", "file_address_invalid"),
        ];
        for (body, expected) in cases {
            assert_eq!(code(body), *expected, "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        }
    }

    fn nested(depth: usize) -> String {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("{{\"Files\":[\"s3://abc/k\"],\"Params\":{{\"a\":{open}{close}}}}}")
    }

    #[test]
    fn nesting_is_bounded_and_takes_little_of_a_stack() {
        // A thread of the HTTP library has 2 MiB.
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let verdicts =
            small.spawn(|| [98, 99, 100, 125, 126, 127, 128, 500_000].map(|depth| code(nested(depth).as_bytes()))).unwrap();
        let (fine, deep) = ("accepted", "body_malformed");
        assert_eq!(verdicts.join().unwrap(), [fine, fine, deep, deep, deep, deep, deep, deep]);
    }

    #[test]
    fn long_numbers_and_many_keys_take_no_longer_than_their_bytes() {
        let with = |params: &str| format!("{{\"Files\":[\"s3://abc/k\"],\"Params\":{{{params}}}}}");
        let digits = "9".repeat(1 << 20);
        assert_eq!(code(with(&format!("\"a\":{digits}")).as_bytes()), "body_malformed");
        assert_eq!(code(with(&format!("\"a\":0.{digits}")).as_bytes()), "accepted");
        assert_eq!(code(with(&format!("\"a\":1e-{digits}")).as_bytes()), "accepted");
        // As many as fit into the longest body by default.
        let keys: Vec<_> = (0..95_000).map(|number| format!("\"{number:x}\":1")).collect();
        let many = with(&keys.join(","));
        assert!(many.len() < 1 << 20);
        let begin = std::time::Instant::now();
        assert_eq!(code(many.as_bytes()), "accepted");
        assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_field_that_is_not_given_leaves_the_digest_as_it_was() {
        let digest = |body: &str| {
            let request = TestRequest::default().insert_header(("idempotency-key", "a")).to_http_request();
            let submission = Submission::from_body(parse(body.as_bytes()).unwrap()).unwrap();
            submission.idempotency(&request, JobKind::Train).unwrap().unwrap().digest
        };
        // What earlier versions have kept: a repeated request must still find its job.
        let kept = Sha256::digest(b"s3://abc/k\0train[{},null]").to_vec();
        assert_eq!(digest(r#"{"Files":["s3://abc/k"]}"#), kept);
        let kept = Sha256::digest(b"s3://abc/k\0train[{},null]\"https://a/b\"").to_vec();
        assert_eq!(digest(r#"{"Files":["s3://abc/k"],"Callback":"https://a/b"}"#), kept);

        let with = |uri: &str| digest(&format!(r#"{{"Files":["s3://abc/k"],"OutputUri":"{uri}"}}"#));
        assert_eq!(with("s3://abc/a"), with("s3://abc/a"));
        assert_ne!(with("s3://abc/a"), with("s3://abc/b"));
        let callback = digest(r#"{"Files":["s3://abc/k"],"Callback":"s3://abc/a"}"#);
        assert_ne!(with("s3://abc/a"), callback, "one field is not taken for another");
    }

    #[test]
    fn a_clients_text_is_clipped_and_cleaned() {
        assert_eq!(clip("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(clip(&"x".repeat(1000)).chars().count(), 201);
    }
}

//! What an error of the SDK means.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::unanswered::{is_connecting, meaning};
use crate::FileProblem;

/// For how long S3 may ask to be left alone.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Why a request failed, by what helps.
#[derive(Debug)]
pub(super) enum Failure {
    /// 304: what the client holds is what S3 holds.
    Unchanged,
    /// 412 or 416: this is not the object any more that the request was made for.
    Changed,
    /// The bucket lies in another region.
    Elsewhere(String),
    /// The credentials have expired; new ones may be had.
    Expired(FileProblem),
    /// The signature's time is off. The SDK has learned S3's clock from the answer, so the next signature may be right.
    Skewed(FileProblem),
    /// Nothing helps.
    Final(FileProblem),
    /// Trying again may help, not before so long if S3 says so.
    Passing(FileProblem, Option<Duration>),
}

impl Failure {
    /// Reads what an error means.
    pub(super) fn of<E: ProvideErrorMetadata + Error + Send + Sync + 'static>(error: &SdkError<E, HttpResponse>) -> Self {
        let failure = match error {
            SdkError::TimeoutError(_) => Self::Passing(FileProblem::Stalled, None),
            SdkError::DispatchFailure(failure) if failure.is_timeout() && !is_connecting(error) => {
                Self::Passing(FileProblem::Stalled, None)
            }
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => meaning(error),
            SdkError::ServiceError(service) => Answer::new(service.raw(), service.err().code()).meaning(),
            SdkError::ResponseError(response) => Answer::new(response.raw(), None).meaning(),
            _ => Self::Passing(FileProblem::Unavailable("the request failed".to_owned()), None),
        };
        tracing::debug!(error = %DisplayErrorContext(error), ?failure, "a request to S3 failed");
        failure
    }
}

/// An answer that is an error.
struct Answer<'a> {
    status: u16,
    code: &'a str,
    raw: &'a HttpResponse,
}

impl<'a> Answer<'a> {
    fn new(raw: &'a HttpResponse, code: Option<&'a str>) -> Self {
        Self { status: raw.status().as_u16(), code: code.unwrap_or_default(), raw }
    }

    fn meaning(&self) -> Failure {
        if self.header("x-amz-delete-marker") == Some("true") {
            return Failure::Final(FileProblem::Missing);
        }
        self.meaning_of_code().unwrap_or_else(|| self.meaning_of_status())
    }

    fn meaning_of_code(&self) -> Option<Failure> {
        Some(match self.code {
            "NoSuchKey" | "NoSuchVersion" | "KeyTooLongError" => Failure::Final(FileProblem::Missing),
            "NoSuchBucket" | "InvalidBucketName" => Failure::Final(FileProblem::NoBucket),
            "InvalidObjectState" => Failure::Final(FileProblem::Archived),
            "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                self.elsewhere()
            }
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                Failure::Expired(self.credentials("they have expired"))
            }
            "RequestTimeTooSkewed" | "RequestExpired" => {
                Failure::Skewed(self.credentials("this machine's clock differs too much from S3's"))
            }
            "InvalidAccessKeyId" => Failure::Final(self.credentials("the access key is not known")),
            "SignatureDoesNotMatch" => Failure::Final(self.credentials("the secret key is wrong")),
            "InvalidToken" | "InvalidSecurity" | "AuthFailure" | "UnrecognizedClientException" => {
                Failure::Final(self.credentials("they are not valid"))
            }
            "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests" => self.throttled(),
            "RequestTimeout" => Failure::Passing(FileProblem::Stalled, self.retry_after()),
            "InvalidArgument" if self.message_names("version id") => Failure::Final(FileProblem::Missing),
            _ => return None,
        })
    }

    fn meaning_of_status(&self) -> Failure {
        match self.status {
            304 => Failure::Unchanged,
            412 | 416 => Failure::Changed,
            300..=399 => self.elsewhere(),
            400 if self.region().is_some() => self.elsewhere(),
            404 => Failure::Final(FileProblem::Missing),
            429 | 503 => self.throttled(),
            408 => Failure::Passing(FileProblem::Stalled, self.retry_after()),
            // Everything else that S3 will not do for this server, such as a bucket whose requester pays or a key that only the
            // client knows: nothing that the server can change.
            400..=499 => {
                tracing::warn!(status = self.status, code = self.code, "S3 refuses a request");
                Failure::Final(FileProblem::Denied)
            }
            200..=299 => Failure::Final(FileProblem::Unavailable("its answer cannot be read".to_owned())),
            status => Failure::Passing(FileProblem::Unavailable(format!("it answers with status {status}")), self.retry_after()),
        }
    }

    fn throttled(&self) -> Failure {
        Failure::Passing(FileProblem::Throttled(self.retry_after()), self.retry_after())
    }

    fn credentials(&self, reason: &str) -> FileProblem {
        FileProblem::Credentials(format!("{reason} (`{}`)", self.code))
    }

    /// Only a region is followed, never an address: signed requests go nowhere but to S3.
    fn elsewhere(&self) -> Failure {
        match self.region() {
            Some(region) => Failure::Elsewhere(region),
            None => Failure::Final(FileProblem::Unavailable("it redirects to another address, which is not followed".to_owned())),
        }
    }

    fn region(&self) -> Option<String> {
        let named = self.header("x-amz-bucket-region").or_else(|| between(self.body(), "<Region>", "</Region>"))?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((1..=32).contains(&named.len()) && named.bytes().all(plain)).then(|| named.to_owned())
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
    }

    fn message_names(&self, words: &str) -> bool {
        self.body().to_ascii_lowercase().contains(words)
    }

    fn header(&self, name: &'static str) -> Option<&'a str> {
        self.raw.headers().get(name)
    }

    fn body(&self) -> &'a str {
        self.raw.body().bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn meaning(status: u16, code: &str, headers: &[(&'static str, &'static str)], body: &'static str) -> String {
        let mut raw = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
        for (name, value) in headers {
            raw.headers_mut().insert(*name, *value);
        }
        format!("{:?}", Answer::new(&raw, Some(code).filter(|code| !code.is_empty())).meaning())
    }

    #[test]
    fn every_answer_means_one_thing() {
        let credentials = |reason: &str| format!("(Credentials(\"{reason}\"))");
        let table = [
            (404, "NoSuchKey", "Final(Missing)".to_owned()),
            (404, "NoSuchVersion", "Final(Missing)".to_owned()),
            (404, "", "Final(Missing)".to_owned()),
            (400, "KeyTooLongError", "Final(Missing)".to_owned()),
            (404, "NoSuchBucket", "Final(NoBucket)".to_owned()),
            (400, "InvalidBucketName", "Final(NoBucket)".to_owned()),
            (403, "AccessDenied", "Final(Denied)".to_owned()),
            (403, "", "Final(Denied)".to_owned()),
            (400, "InvalidRequest", "Final(Denied)".to_owned()),
            (403, "RequestPaymentRequired", "Final(Denied)".to_owned()),
            (403, "InvalidObjectState", "Final(Archived)".to_owned()),
            (304, "", "Unchanged".to_owned()),
            (412, "PreconditionFailed", "Changed".to_owned()),
            (416, "InvalidRange", "Changed".to_owned()),
            (503, "SlowDown", "Passing(Throttled(None), None)".to_owned()),
            (503, "", "Passing(Throttled(None), None)".to_owned()),
            (429, "", "Passing(Throttled(None), None)".to_owned()),
            (400, "RequestTimeout", "Passing(Stalled, None)".to_owned()),
            (500, "InternalError", "Passing(Unavailable(\"it answers with status 500\"), None)".to_owned()),
            (502, "", "Passing(Unavailable(\"it answers with status 502\"), None)".to_owned()),
            (400, "ExpiredToken", format!("Expired{}", credentials("they have expired (`ExpiredToken`)"))),
            (403, "InvalidAccessKeyId", format!("Final{}", credentials("the access key is not known (`InvalidAccessKeyId`)"))),
            (403, "SignatureDoesNotMatch", format!("Final{}", credentials("the secret key is wrong (`SignatureDoesNotMatch`)"))),
            (400, "InvalidToken", format!("Final{}", credentials("they are not valid (`InvalidToken`)"))),
        ];
        for (status, code, expected) in table {
            assert_eq!(meaning(status, code, &[], ""), expected, "{status} {code}");
        }
        assert!(meaning(403, "RequestTimeTooSkewed", &[], "").starts_with("Skewed(Credentials(\"this machine's clock"));
    }

    #[test]
    fn a_delete_marker_is_a_missing_object() {
        let marker = [("x-amz-delete-marker", "true")];
        assert_eq!(meaning(404, "NoSuchKey", &marker, ""), "Final(Missing)");
        assert_eq!(meaning(405, "MethodNotAllowed", &marker, ""), "Final(Missing)");
        assert_eq!(meaning(405, "MethodNotAllowed", &[], ""), "Final(Denied)");
    }

    #[test]
    fn a_version_that_cannot_exist_is_a_missing_object() {
        let body = "<Error><Code>InvalidArgument</Code><Message>Invalid version id specified</Message></Error>";
        assert_eq!(meaning(400, "InvalidArgument", &[], body), "Final(Missing)");
        assert_eq!(meaning(400, "InvalidArgument", &[], ""), "Final(Denied)");
    }

    #[test]
    fn a_redirect_is_followed_to_a_region_only() {
        let region = [("x-amz-bucket-region", "eu-west-1")];
        let elsewhere = "Elsewhere(\"eu-west-1\")";
        assert_eq!(meaning(301, "PermanentRedirect", &region, ""), elsewhere);
        assert_eq!(meaning(307, "TemporaryRedirect", &region, ""), elsewhere);
        assert_eq!(meaning(301, "", &region, ""), elsewhere);
        assert_eq!(meaning(400, "AuthorizationHeaderMalformed", &[], "<Error><Region>eu-west-1</Region></Error>"), elsewhere);
        for headers in [&[][..], &[("location", "http://127.0.0.1:1/")], &[("x-amz-bucket-region", "evil.example/")]] {
            let refused = "Final(Unavailable(\"it redirects to another address, which is not followed\"))";
            assert_eq!(meaning(301, "PermanentRedirect", headers, ""), refused);
        }
    }

    #[test]
    fn s3_says_when_to_try_again() {
        assert_eq!(meaning(503, "SlowDown", &[("retry-after", "7")], ""), "Passing(Throttled(Some(7s)), Some(7s))");
        let for_ever = [("retry-after", "18446744073709551615")];
        assert_eq!(meaning(503, "SlowDown", &for_ever, ""), "Passing(Throttled(Some(3600s)), Some(3600s))");
        assert_eq!(meaning(503, "SlowDown", &[("retry-after", "soon")], ""), "Passing(Throttled(None), None)");
    }
}

//! Answers that are no objects: which are tried again, which are followed, and what they are called.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use tokio::net::TcpListener;

use super::{client, fetch, object, settings};
use crate::{FileProblem, S3, S3Settings};
use dunnage_testing::s3::scripted::{Answer, Request, Scripted};

/// Answers so as long as `refuses` says, and with an object afterwards.
async fn refusing(answer: Answer, times: usize) -> Scripted {
    Scripted::start(
        move |request| if request.index < times { answer.clone() } else { Answer::object(request, b"object", "\"one\"") },
    )
}

async fn problem(server: &Scripted) -> FileProblem {
    fetch(&client(settings(&server.endpoint)), &object("bucket", "key")).await.unwrap_err()
}

#[tokio::test]
async fn what_never_helps_is_asked_once() {
    let table = [
        (404, "NoSuchKey", "Missing"),
        (404, "NoSuchBucket", "NoBucket"),
        (403, "AccessDenied", "Denied"),
        (403, "InvalidObjectState", "Archived"),
        (403, "InvalidAccessKeyId", "Credentials"),
        (403, "SignatureDoesNotMatch", "Credentials"),
        (400, "InvalidRequest", "Denied"),
    ];
    for (status, code, expected) in table {
        let server = refusing(Answer::error(status, code), 99).await;
        let problem = problem(&server).await;
        assert!(format!("{problem:?}").starts_with(expected), "{code}: {problem:?}");
        assert_eq!(server.requests().len(), 1, "{code}");
    }
    let bare = refusing(Answer::status(403), 99).await;
    assert!(matches!(problem(&bare).await, FileProblem::Denied));
    let marker = refusing(Answer::status(405).with("x-amz-delete-marker", "true"), 99).await;
    assert!(matches!(problem(&marker).await, FileProblem::Missing));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_a_few_times() {
    let html = Answer { body: b"<html>Bad Gateway</html>".to_vec(), ..Answer::status(502).with("content-type", "text/html") };
    let table = [
        (Answer::error(503, "SlowDown"), "Throttled(None)"),
        (Answer::error(500, "InternalError"), "Unavailable(\"it answers with status 500\")"),
        (Answer::status(429), "Throttled(None)"),
        (html, "Unavailable(\"it answers with status 502\")"),
    ];
    for (answer, expected) in table {
        let recovers = refusing(answer.clone(), 2).await;
        assert_eq!(fetch(&client(settings(&recovers.endpoint)), &object("bucket", "key")).await.unwrap(), b"object", "{expected}");
        assert_eq!(recovers.requests().len(), 3, "{expected}");
        let (server, start) = (refusing(answer, 99).await, Instant::now());
        assert_eq!(format!("{:?}", problem(&server).await), expected);
        assert_eq!(server.requests().len(), 4, "{expected}");
        assert!(start.elapsed() > Duration::from_secs(1) && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn s3_is_not_asked_sooner_than_it_wants() {
    let (server, start) = (refusing(Answer::error(503, "SlowDown").with("retry-after", "1"), 1).await, Instant::now());
    fetch(&client(settings(&server.endpoint)), &object("bucket", "key")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let (server, start) = (refusing(Answer::error(503, "SlowDown").with("retry-after", "60"), 1).await, Instant::now());
    assert!(matches!(problem(&server).await, FileProblem::Throttled(_)));
    assert!(start.elapsed() < Duration::from_secs(1), "a minute is too long to wait");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/bucket/key", trap.local_addr().unwrap());
    for status in [301, 302, 307, 308] {
        let server = refusing(Answer::error(status, "").with("location", &location), 99).await;
        let problem = problem(&server).await;
        let expected = "it redirects to another address, which is not followed";
        assert!(matches!(&problem, FileProblem::Unavailable(text) if text == expected), "{status}: {problem:?}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), trap.accept()).await.is_err(), "nobody comes to the trap");
}

fn signed_for(request: &Request, region: &str) -> bool {
    request.header("authorization").is_some_and(|value| value.contains(&format!("/{region}/s3/")))
}

#[tokio::test]
async fn a_bucket_in_another_region_is_asked_there_and_its_region_remembered() {
    let server = Scripted::start(|request| match signed_for(request, "eu-west-1") {
        true => Answer::object(request, b"object", "\"one\""),
        false => Answer::error(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-west-1"),
    });
    let s3 = client(settings(&server.endpoint));
    for requests in [2, 3] {
        assert_eq!(fetch(&s3, &object("bucket", "key")).await.unwrap(), b"object");
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn a_region_that_leads_nowhere_is_named() {
    let server = refusing(Answer::error(400, "AuthorizationHeaderMalformed").with("x-amz-bucket-region", "eu-west-1"), 99).await;
    let problem = problem(&server).await;
    assert!(matches!(&problem, FileProblem::WrongRegion(region) if region == "eu-west-1"), "{problem:?}");
    assert_eq!(server.requests().len(), 2);
}

/// Gives other keys every time.
#[derive(Debug, Default)]
struct Rotating(Arc<AtomicUsize>);

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let id = format!("AKID{}", self.0.fetch_add(1, Ordering::SeqCst));
        aws_credential_types::provider::future::ProvideCredentials::ready(Ok(Credentials::new(id, "secret", None, None, "test")))
    }
}

#[tokio::test]
async fn expired_credentials_are_renewed_once() {
    for (lasting, requests) in [(1, 2), (99, 2)] {
        let server = refusing(Answer::error(400, "ExpiredToken"), lasting).await;
        let rotating = SharedCredentialsProvider::new(Rotating::default());
        let fetched = fetch(&S3::connect_with(settings(&server.endpoint), Some(rotating)), &object("bucket", "key")).await;
        assert_eq!(fetched.is_ok(), lasting == 1, "{fetched:?}");
        assert!(lasting == 1 || matches!(fetched, Err(FileProblem::Credentials(_))));
        let seen = server.requests();
        assert_eq!(seen.len(), requests);
        let signed_by =
            |request: &Request, id: &str| request.header("authorization").unwrap().contains(&format!("Credential={id}/"));
        assert!(signed_by(&seen[0], "AKID0") && signed_by(&seen[1], "AKID1"), "{seen:?}");
    }
}

#[tokio::test]
async fn answers_that_are_no_objects_of_s3_are_refused() {
    let chunked =
        Answer { body: b"0\r\n\r\n".to_vec(), ..Answer::status(200).with("etag", "\"one\"").with("transfer-encoding", "chunked") };
    let page = Answer { body: b"<html>Hello</html>".to_vec(), ..Answer::status(200).with("content-type", "text/html") };
    for (answer, expected) in [(chunked, "it answers without a length"), (page, "it answers without an entity tag")] {
        let server = refusing(answer, 99).await;
        let problem = problem(&server).await;
        assert!(matches!(&problem, FileProblem::Unavailable(text) if text == expected), "{problem:?}");
    }
}

#[tokio::test]
async fn public_buckets_are_asked_without_a_signature() {
    let server = refusing(Answer::status(403), 0).await;
    let s3 = S3::connect(S3Settings { anonymous: true, ..settings(&server.endpoint) });
    assert_eq!(fetch(&s3, &object("bucket", "key")).await.unwrap(), b"object");
    assert_eq!(server.requests()[0].header("authorization"), None);
}

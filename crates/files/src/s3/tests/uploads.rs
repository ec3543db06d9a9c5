//! Objects that are written badly.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{client, settings};
use crate::s3::checksum::{crc64_nvme, crc64_nvme_text};
use crate::{Bucket, FileProblem};
use dunnage_testing::s3::scripted::{Answer, End, Request, Scripted};

const LARGE: usize = 20 << 20;

fn place(server: &Scripted) -> Bucket {
    Bucket::new(client(settings(&server.endpoint)), "bucket", "service/")
}

fn file(size: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![7; size]).unwrap();
    (folder, path)
}

fn checksum(size: usize) -> String {
    crc64_nvme_text(crc64_nvme(&vec![7; size]))
}

fn xml(body: &str) -> Answer {
    Answer { body: body.as_bytes().to_vec(), ..Answer::status(200) }
}

/// Does all that an upload needs.
fn willing(request: &Request) -> Answer {
    match request.line() {
        line if line.starts_with("POST") && line.contains("uploads") => {
            xml("<InitiateMultipartUploadResult><UploadId>42</UploadId></InitiateMultipartUploadResult>")
        }
        line if line.starts_with("POST") => xml("<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"),
        line if line.starts_with("DELETE") => Answer::status(204),
        _ => Answer::status(200).with("etag", "\"part\""),
    }
}

fn is_abortion(request: &Request) -> bool {
    request.line().starts_with("DELETE /bucket/service/key?") && request.line().contains("uploadId=42")
}

/// Waits until an upload is ended, or says that it never is.
async fn is_ended(server: &Scripted) -> bool {
    for _ in 0..100 {
        if server.requests().iter().any(is_abortion) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn s3_is_told_the_checksum_of_everything_that_is_written() {
    let server = Scripted::start(willing);
    let (_folder, small) = file(1000);
    place(&server).put("key", &small).await.unwrap();
    assert_eq!(server.requests()[0].header("x-amz-checksum-crc64nvme"), Some(checksum(1000).as_str()));

    let server = Scripted::start(willing);
    let (_folder, large) = file(LARGE);
    place(&server).put("key", &large).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 6, "one to begin, four parts, one to complete");
    assert_eq!(requests.iter().filter(|part| part.header("x-amz-checksum-crc64nvme") == Some(&checksum(5 << 20))).count(), 4);
    assert_eq!(requests[5].header("x-amz-checksum-crc64nvme"), Some(checksum(LARGE).as_str()));
    assert_eq!(requests[5].header("x-amz-checksum-type"), Some("FULL_OBJECT"));
}

#[tokio::test]
async fn a_write_that_fails_at_first_is_tried_again() {
    let server = Scripted::start(|request| if request.index < 2 { Answer::error(503, "SlowDown") } else { willing(request) });
    place(&server).put_bytes("key", b"bytes".to_vec(), "text/plain").await.unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_upload_that_fails_is_ended() {
    let server = Scripted::start(|request| match request.line().contains("partNumber=3") {
        true => Answer::error(403, "AccessDenied"),
        false => willing(request),
    });
    let (_folder, large) = file(LARGE);
    let error = place(&server).put("key", &large).await.unwrap_err();
    assert!(matches!(error.problem, FileProblem::Denied), "{error:?}");
    assert_eq!(error.address.to_string(), "s3://bucket/service/key");
    assert!(is_ended(&server).await);
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_any_more_is_ended() {
    let silent = |request: &Request| match request.line().contains("partNumber=") {
        true => Answer { body: vec![0; 10], ..willing(request) }.ending(End::Silence(0)),
        false => willing(request),
    };
    let server = Scripted::start(silent);
    let (_folder, large) = file(LARGE);
    let place = place(&server);
    let put = tokio::spawn(async move { place.put("key", &large).await });
    while !server.requests().iter().any(|request| request.line().contains("partNumber=")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    put.abort();
    assert!(is_ended(&server).await);
}

#[tokio::test]
async fn an_upload_whose_completion_was_not_heard_of_is_found_complete() {
    for (stored, found) in [(checksum(LARGE), true), (checksum(1), false)] {
        let server = Scripted::start(move |request| {
            let head = Answer::status(200).with("etag", "\"one\"").with("content-length", &LARGE.to_string());
            match request.line() {
                line if line.starts_with("POST") && line.contains("uploadId") => Answer::error(404, "NoSuchUpload"),
                line if line.starts_with("HEAD") => head.with("x-amz-checksum-crc64nvme", &stored),
                _ => willing(request),
            }
        });
        let (_folder, large) = file(LARGE);
        assert_eq!(place(&server).put("key", &large).await.is_ok(), found);
    }
}

#[tokio::test]
async fn what_cannot_be_removed_is_named() {
    let answer = "<DeleteResult><Error><Key>service/b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
    let server = Scripted::start(move |_| xml(answer));
    let failures = place(&server).remove(&["a".to_owned(), "b".to_owned()]).await.unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].address.to_string(), "s3://bucket/service/b");
    assert!(matches!(failures[0].problem, FileProblem::Denied));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_found_out_at_the_start() {
    let list = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let server = Scripted::start(move |request| match request.line() {
        line if line.starts_with("PUT") => Answer::error(403, "AccessDenied"),
        _ => xml(list),
    });
    let error = place(&server).check().await.unwrap_err();
    assert!(matches!(error.problem, FileProblem::Denied) && error.address.to_string().contains("service/.check-"), "{error:?}");
}

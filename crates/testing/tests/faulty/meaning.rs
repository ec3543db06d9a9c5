//! What requests mean, when nothing goes wrong.

use std::process::Command;
use std::time::{Duration, SystemTime};

use dunnage_testing::s3::faulty::{Algorithm, Faulty, Object};

use crate::wire::{get, send};

const GET: &str = "GET /dunnage/a";

#[test]
fn what_is_not_there_is_told_apart() {
    let server = Faulty::start();
    server.keep_versions("dunnage");
    server.put("dunnage", "a", Object::new(*b"1").version("one"));
    server.mark_deleted("dunnage", "a");
    for (target, status, code) in [
        ("/other/a", 404, "NoSuchBucket"),
        ("/dunnage/b", 404, "NoSuchKey"),
        ("/dunnage/a", 404, "NoSuchKey"),
        ("/dunnage/a?versionId=two", 404, "NoSuchVersion"),
        ("/dunnage/a?versionId=deleted", 405, "MethodNotAllowed"),
        ("/dunnage?acl", 501, "NotImplemented"),
    ] {
        let seen = get(&server, target);
        assert_eq!(seen.status(), status, "{target}");
        assert!(seen.text().contains(&format!("<Code>{code}</Code>")), "{target}: {seen:?}");
    }
    let one = get(&server, "/dunnage/a?versionId=one");
    assert_eq!((one.text(), one.header("x-amz-version-id")), ("1", Some("one")));
}

#[test]
fn conditions_are_held() {
    let server = Faulty::start();
    server.put("dunnage", "a", Object::new(*b"1").etag("\"one\""));
    let status =
        |request: &str, name: &str, value: &str| send(&server, request, &[(name, value), ("Content-Length", "0")]).status();
    assert_eq!(status(GET, "If-Match", "\"one\""), 200);
    assert_eq!(status(GET, "If-Match", "\"two\""), 412);
    assert_eq!(status(GET, "If-None-Match", "\"one\""), 304);
    assert_eq!(status(GET, "If-None-Match", "\"two\""), 200);
    assert_eq!(status("PUT /dunnage/a", "If-None-Match", "*"), 412);
    assert_eq!(status("PUT /dunnage/b", "If-None-Match", "*"), 200);
    assert_eq!(status("PUT /dunnage/a", "If-Match", "\"two\""), 412);
    assert_eq!(status("PUT /dunnage/c", "If-Match", "\"two\""), 404);
}

#[test]
fn ranges_of_made_objects_are_the_bytes_of_the_whole() {
    let server = Faulty::start();
    let object = Object::made(5 << 30, 9);
    server.put("dunnage", "a", object.clone());
    let seen = send(&server, GET, &[("Range", "bytes=4294967290-4295967290")]);
    assert_eq!((seen.status(), seen.header("content-range")), (206, Some("bytes 4294967290-4295967290/5368709120")));
    assert!(seen.body == object.bytes(4_294_967_290..4_295_967_291));
    assert_eq!(send(&server, GET, &[("Range", "bytes=5368709120-")]).status(), 416);
    let head = send(&server, "HEAD /dunnage/a", &[]);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("5368709120"), 0));
}

#[test]
fn checksums_come_to_those_who_ask_and_only_with_the_whole() {
    let server = Faulty::start();
    let bytes = Object::made(100_000, 2).bytes(0..100_000);
    let put = |key: &str, object: Object| server.put("dunnage", key, object);
    put("right", Object::new(bytes.as_slice()).checksum(Algorithm::Sha256));
    put("wrong", Object::new(bytes.as_slice()).wrong_checksum(Algorithm::Sha256));
    put("parts", Object::new(bytes.as_slice()).composite_checksum(Algorithm::Sha256, 40_000));
    let ask =
        |key: &str, more: (&str, &str)| send(&server, &format!("GET /dunnage/{key}"), &[("x-amz-checksum-mode", "ENABLED"), more]);
    let checksum = |key: &str, more: (&str, &str)| ask(key, more).header("x-amz-checksum-sha256").map(str::to_owned);
    let right = Algorithm::Sha256.of(&bytes);
    assert_eq!(checksum("right", ("x-none", "")).as_deref(), Some(right.as_str()));
    assert_eq!(checksum("right", ("Range", "bytes=0-9")), None);
    assert!(checksum("wrong", ("x-none", "")).is_some_and(|wrong| wrong != right));
    let parts = ask("parts", ("x-none", ""));
    assert!(parts.header("x-amz-checksum-sha256").is_some_and(|value| value.ends_with("-3")));
    assert_eq!(parts.header("x-amz-checksum-type"), Some("COMPOSITE"));
    assert_eq!(get(&server, "/dunnage/right").header("x-amz-checksum-sha256"), None);
}

#[test]
fn an_object_was_changed_when_it_is_said_to_be() {
    let server = Faulty::start();
    server.put("dunnage", "a", Object::new(*b"1").modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_651_200)));
    assert_eq!(get(&server, "/dunnage/a").header("last-modified"), Some("Thu, 26 Nov 2026 00:00:00 GMT"));
    assert!(get(&server, "/dunnage?list-type=2").text().contains("<LastModified>2026-11-26T00:00:00.000Z</LastModified>"));
}

/// Another client than ours, with its own idea of S3: everything that it can do here it does, and looks at the answers.
#[test]
fn boto3_is_at_home() {
    let server = Faulty::start();
    server.create_bucket("dunnage");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut python = Command::new(format!("{folder}/.venv/bin/python"));
    python.arg(format!("{folder}/crates/testing/tests/faulty/boto3_client.py")).envs(server.account().environment());
    let output = python.output().expect("`.venv` has Python; `tools/setup.sh test` makes it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((server.keys("dunnage"), server.open_uploads()), (vec!["parts".to_owned()], 0));
    assert!(server.requests().iter().all(|request| request.is_signed));
}

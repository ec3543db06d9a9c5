//! What S3 refuses: each refusal has its code, and nothing is asked twice that cannot be had.

use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::{Answer, End, Request};
use dunnage_testing::service::Service;
use serde_json::{Value, json};

use super::{address, body, count, key, setup, sizes};

/// A fault that is no fault of the way: the key it is of, its code and status, and how many requests it takes to find out.
struct Fault {
    key: &'static str,
    code: &'static str,
    status: u16,
    requests: usize,
}

const fn fault(key: &'static str, code: &'static str, status: u16, requests: usize) -> Fault {
    Fault { key, code, status, requests }
}

const FINAL: [Fault; 13] = [
    fault("missing", "file_not_found", 422, 1),
    fault("deleted", "file_not_found", 422, 1),
    fault("no-bucket", "bucket_not_found", 422, 1),
    fault("denied", "file_denied", 422, 1),
    fault("requester-pays", "file_denied", 422, 1),
    fault("archived", "file_archived", 422, 1),
    fault("elsewhere", "s3_region_wrong", 422, 2),
    fault("large", "file_too_large", 413, 1),
    fault("corrupt", "file_corrupt", 422, 2),
    fault("replaced", "file_changed", 409, 6),
    fault("redirected", "s3_unavailable", 503, 1),
    fault("html", "s3_unavailable", 503, 1),
    fault("without-length", "s3_unavailable", 503, 1),
];

/// Those of them that do not pass, so that a job ends at once. The next two may be another object's the next time.
const OF_THE_OBJECT: usize = 8;

fn refuse(request: &Request, trap: &str) -> Answer {
    let object = |bytes: &[u8]| Answer::object(request, bytes, "\"one\"");
    match key(request) {
        "missing" => Answer::error(404, "NoSuchKey"),
        "deleted" => Answer::error(404, "NoSuchKey").with("x-amz-delete-marker", "true"),
        "no-bucket" => Answer::error(404, "NoSuchBucket"),
        "denied" => Answer::error(403, "AccessDenied"),
        "requester-pays" => Answer::error(403, "RequestPaymentRequired"),
        "archived" => Answer::error(403, "InvalidObjectState"),
        "elsewhere" => Answer::error(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-west-1"),
        "large" => object(&[0; 4097]),
        "corrupt" => object(b"1,2,3\n").with("x-amz-checksum-crc32", "AAAAAA=="),
        "replaced" => Answer::object(request, &[b'1'; 100], &format!("\"{}\"", request.index)).ending(End::Fin(50)),
        "redirected" => Answer::error(307, "TemporaryRedirect").with("location", trap),
        "html" => Answer { body: b"<html>welcome</html>".to_vec(), ..Answer::status(200).with("content-type", "text/html") },
        "without-length" => {
            let chunks = b"6\r\n1,2,3\n\r\n0\r\n\r\n".to_vec();
            Answer { body: chunks, ..Answer::status(200).with("etag", "\"one\"").with("transfer-encoding", "chunked") }
        }
        _ => object(b"1,2,3\n"),
    }
}

/// An object that is all right, so that faults do not follow each other.
fn go_on(service: &Service) {
    sizes(service, &["good"]).expect(200);
}

#[test]
fn every_refusal_has_its_code_and_is_not_asked_for_again() {
    let trap = Scripted::start(|_| Answer::status(200));
    let target = format!("{}/walks/redirected", trap.endpoint);
    let s3 = Scripted::start(move |request| refuse(request, &target));
    let setup = setup(&s3.endpoint).flags(&["--max-file", "4096", "--fetch-stall", "500ms"]);
    let service = setup.start();
    for Fault { key, code, status, requests } in &FINAL {
        let answer = sizes(&service, &["good", key]);
        assert_eq!(answer.status, *status, "{key}: {answer}");
        let detail = answer.expect_problem(*status, code);
        assert!(detail.contains(&address(key)), "{key}: {detail}");
        assert_eq!(count(&s3, key), *requests, "{key}");
        go_on(&service);
    }
    assert!(trap.requests().is_empty(), "a redirect was followed: {:?}", trap.requests());
    assert_eq!(super::metric(&service, "dunnage_s3_outage"), 0.0);
}

#[test]
fn a_job_whose_object_is_wrong_ends_at_once_and_names_it() {
    let s3 = Scripted::start(move |request| refuse(request, ""));
    let setup = setup(&s3.endpoint).flags(&["--max-file", "4096", "--prefetch", "0"]);
    let service = setup.start();
    for Fault { key, code, requests, .. } in &FINAL[..OF_THE_OBJECT] {
        let status = service.ended(&service.submit("/input", &body(&["good", key], json!({}))));
        assert_eq!(status["error"]["code"], *code, "{status}");
        assert_eq!((&status["state"], &status["attempt"]), (&json!("error"), &json!(1)), "{status}");
        assert!(status["error"]["message"].as_str().unwrap().contains(&address(key)), "{status}");
        assert_eq!(count(&s3, key), *requests, "{key}");
    }
}

#[test]
fn a_job_whose_object_may_be_right_the_next_time_is_tried_again() {
    let s3 = Scripted::start(move |request| refuse(request, ""));
    let setup = setup(&s3.endpoint).flags(&["--max-attempts", "2", "--prefetch", "0"]);
    let service = setup.start();
    for Fault { key, code, requests, .. } in &FINAL[OF_THE_OBJECT..OF_THE_OBJECT + 2] {
        let status = service.ended(&service.submit("/input", &body(&[key], json!({}))));
        assert_eq!((&status["error"]["code"], &status["attempt"]), (&json!(code), &json!(2)), "{status}");
        assert_eq!(count(&s3, key), 2 * requests, "{key}");
    }
}

#[test]
fn the_region_of_a_bucket_is_found_by_itself() {
    let s3 = Scripted::start(|request| {
        let scope = request.header("authorization").unwrap_or_default();
        if scope.contains("/eu-west-1/s3/") {
            return Answer::object(request, b"1,2,3\n", "\"one\"");
        }
        Answer::error(400, "AuthorizationHeaderMalformed").with("x-amz-bucket-region", "eu-west-1")
    });
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    for keys in [["a"], ["b"]] {
        assert_eq!(sizes(&service, &keys).expect(200)["outputVector"], json!([6.0]));
    }
    assert_eq!(s3.requests().len(), 3, "it is remembered");
}

#[test]
fn objects_that_do_not_fit_into_the_cache_are_refused_before_they_are_fetched() {
    let s3 = super::serving(|key| vec![b'1'; if key == "huge" { 70_000 } else { 30_000 }]);
    let setup = setup(&s3.endpoint).flags(&["--cache-bytes", "65536"]);
    let service = setup.start();
    let detail = sizes(&service, &["huge"]).expect_problem(413, "file_too_large");
    assert!(detail.contains("`--cache-bytes`") && detail.contains(&address("huge")), "{detail}");
    let detail = sizes(&service, &["a", "b", "c"]).expect_problem(413, "files_too_large");
    assert!(detail.contains("`--cache-bytes`"), "{detail}");
    let status = service.ended(&service.submit("/input", &body(&["a", "b", "c"], json!({}))));
    assert_eq!((&status["error"]["code"], &status["attempt"]), (&json!("files_too_large"), &json!(1)), "{status}");
    assert_eq!(sizes(&service, &["a", "b", "a"]).expect(200)["outputVector"], json!([30_000.0, 30_000.0, 30_000.0]));
}

#[test]
fn credentials_that_are_refused_are_renewed_once_and_keep_jobs_waiting() {
    let good = super::Switch::default();
    let valid = good.clone();
    let s3 = Scripted::start(move |request| match valid.load(std::sync::atomic::Ordering::SeqCst) {
        0 => Answer::error(400, "ExpiredToken"),
        _ => Answer::object(request, b"1,2,3\n", "\"one\""),
    });
    let setup = setup(&s3.endpoint).flags(&["--max-attempts", "1", "--prefetch", "0"]);
    let service = setup.start();
    let detail = sizes(&service, &["a"]).expect_problem(503, "s3_credentials_refused");
    assert!(detail.contains(&address("a")) && detail.contains("expired"), "{detail}");
    assert_eq!(count(&s3, "a"), 2, "once as they were, once anew");
    let job = service.submit("/input", &body(&["b"], json!({})));
    dunnage_testing::census::eventually("the job has tried", super::PATIENCE, || (count(&s3, "b") == 2).then_some(()));
    service.wait_for(&job, "it waits", |status: &Value| status["state"] == "queued");
    good.store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(service.ended(&job)["state"], "done", "although it may have one attempt only");
}

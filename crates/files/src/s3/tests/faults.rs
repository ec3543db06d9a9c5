//! Objects that arrive badly: cut, stalled, replaced, altered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{client, fetch, object, settings};
use crate::source::{Asked, Source, Urgency};
use crate::{Bucket, FileProblem, S3, S3Settings};
use dunnage_testing::s3::scripted::{Answer, End, Request, Scripted};

const MIB: usize = 1 << 20;

fn bytes(count: usize, version: u8) -> Vec<u8> {
    (0..count).map(|index| (index % 241) as u8 ^ version).collect()
}

fn impatient(server: &Scripted) -> S3 {
    client(S3Settings { stall: Duration::from_millis(200), ..settings(&server.endpoint) })
}

/// Serves an object whose answers end as `end` says by their number.
async fn serving(object: Vec<u8>, end: impl Fn(usize) -> End + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request| Answer::object(request, &object, "\"one\"").ending(end(request.index)))
}

#[tokio::test]
async fn a_body_that_is_cut_anywhere_is_resumed_there() {
    let sent = bytes(MIB / 2, 0);
    for cut in [0, 1, sent.len() / 2, sent.len() - 1] {
        for end in [End::Fin(cut), End::Rst(cut)] {
            let server = serving(sent.clone(), move |index| if index == 0 { end } else { End::Whole }).await;
            assert!(fetch(&impatient(&server), &object("bucket", "key")).await.unwrap() == sent, "{end:?}");
            let requests = server.requests();
            assert_eq!(requests.len(), 2, "{end:?}");
            assert_eq!(requests[1].header("if-match"), Some("\"one\""));
            if let End::Fin(cut) = end {
                assert_eq!(requests[1].range(), Some((cut, sent.len())), "what has arrived is not asked for again");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_for_ever_is_given_up() {
    let server = serving(bytes(MIB, 0), |_| End::Fin(1000)).await;
    let start = Instant::now();
    let problem = fetch(&impatient(&server), &object("bucket", "key")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::Truncated), "{problem:?}");
    assert_eq!(server.requests().len(), 4);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn every_part_of_a_large_object_may_be_cut() {
    let sent = bytes(7 * MIB + 5, 0);
    let object_sent = sent.clone();
    let server = Scripted::start(move |request| {
        let rest_of_a_part = request.range().is_some_and(|(start, end)| end - start < MIB);
        let end = if rest_of_a_part { End::Whole } else { End::Fin(MIB / 2) };
        Answer::object(request, &object_sent, "\"one\"").ending(end)
    });
    assert!(fetch(&impatient(&server), &object("bucket", "key")).await.unwrap() == sent);
}

#[tokio::test]
async fn silence_and_dripping_are_cut_short_and_resumed() {
    let sent = bytes(MIB / 4, 0);
    for end in [End::Silence(sent.len() / 2), End::Drip(sent.len() / 2), End::Silence(0)] {
        let server = serving(sent.clone(), move |index| if index == 0 { end } else { End::Whole }).await;
        let start = Instant::now();
        assert!(fetch(&impatient(&server), &object("bucket", "key")).await.unwrap() == sent, "{end:?}");
        assert_eq!(server.requests().len(), 2, "{end:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{end:?} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_only_drips_is_given_up() {
    let server = serving(bytes(MIB / 4, 0), |_| End::Drip(100)).await;
    let start = Instant::now();
    let problem = fetch(&impatient(&server), &object("bucket", "key")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::Stalled), "{problem:?}");
    assert_eq!(server.requests().len(), 4);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Serves the first version once, then the second; `conditions` says whether the server knows any.
async fn replaced(conditions: bool) -> Scripted {
    let versions = [bytes(5 * MIB, 1), bytes(5 * MIB, 2)];
    Scripted::start(move |request| {
        let now = usize::from(request.index > 0);
        let etag = ["\"one\"", "\"two\""][now];
        if conditions || request.range().is_none() {
            return Answer::object(request, &versions[now], etag);
        }
        let (start, end) = request.range().unwrap();
        let range = format!("bytes {start}-{}/{}", end - 1, 5 * MIB);
        let answer = Answer::status(206).with("etag", etag).with("content-range", &range);
        Answer { body: versions[now][start..end].to_vec(), ..answer }
    })
}

#[tokio::test]
async fn an_object_replaced_meanwhile_is_never_mixed() {
    for conditions in [true, false] {
        let server = replaced(conditions).await;
        let problem = fetch(&impatient(&server), &object("bucket", "key")).await.unwrap_err();
        assert!(matches!(problem, FileProblem::Changed), "{problem:?}");
    }
}

#[tokio::test]
async fn an_object_replaced_once_is_had_on_the_second_try() {
    let (server, folder) = (replaced(true).await, tempfile::tempdir().unwrap());
    let place = Bucket::new(impatient(&server), "bucket", "");
    place.get("key", &folder.path().join("to"), u64::MAX).await.unwrap();
    assert!(std::fs::read(folder.path().join("to")).unwrap() == bytes(5 * MIB, 2));
}

/// Serves an object with some headers, and altered in one byte as often as `altered` says.
async fn declaring(headers: Vec<(&'static str, String)>, altered: usize) -> Scripted {
    Scripted::start(move |request: &Request| {
        let mut sent = bytes(MIB / 4, 0);
        sent[77] ^= u8::from(request.index < altered);
        let mut answer = Answer::object(request, &sent, "\"one\"");
        answer.headers.extend(headers.iter().cloned());
        answer
    })
}

fn checksums() -> Vec<(&'static str, String)> {
    let sent = bytes(MIB / 4, 0);
    let crc = |algorithm| crc_fast::checksum(algorithm, &sent);
    vec![
        ("x-amz-checksum-crc64nvme", STANDARD.encode(crc(crc_fast::CrcAlgorithm::Crc64Nvme).to_be_bytes())),
        ("x-amz-checksum-crc32c", STANDARD.encode((crc(crc_fast::CrcAlgorithm::Crc32Iscsi) as u32).to_be_bytes())),
        ("x-amz-checksum-crc32", STANDARD.encode((crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc) as u32).to_be_bytes())),
        ("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&sent))),
    ]
}

#[tokio::test]
async fn bytes_that_do_not_fit_their_checksum_are_fetched_once_more() {
    for checksum in checksums() {
        let name = checksum.0;
        for (altered, requests) in [(0, 1), (1, 2), (9, 2)] {
            let server = declaring(vec![checksum.clone(), ("x-amz-checksum-type", "FULL_OBJECT".to_owned())], altered).await;
            let fetched = fetch(&impatient(&server), &object("bucket", "key")).await;
            match altered {
                9 => assert!(matches!(fetched, Err(FileProblem::Corrupt)), "{name}"),
                _ => assert!(fetched.unwrap() == bytes(MIB / 4, 0), "{name}"),
            }
            assert_eq!(server.requests().len(), requests, "{name}, altered {altered} times");
            assert_eq!(server.requests()[0].header("x-amz-checksum-mode"), Some("ENABLED"));
        }
    }
}

#[tokio::test]
async fn a_checksum_of_parts_is_no_mismatch() {
    let (name, value) = checksums().swap_remove(3);
    let composite = vec![("x-amz-checksum-type", "COMPOSITE".to_owned()), (name, format!("{value}-2"))];
    let numbered = vec![(name, format!("{value}-2"))];
    for headers in [composite, numbered, vec![], vec![("x-amz-server-side-encryption", "aws:kms".to_owned())]] {
        let server = declaring(headers, 9).await;
        fetch(&impatient(&server), &object("bucket", "key")).await.unwrap();
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_empty_object_is_an_empty_file() {
    let server = serving(Vec::new(), |_| End::Whole).await;
    assert_eq!(fetch(&impatient(&server), &object("bucket", "key")).await.unwrap(), b"");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn small_objects_take_one_request_and_large_ones_every_byte_about_once() {
    for (size, most) in [(2 * MIB, 1), (20 * MIB, 20)] {
        let sent = bytes(size, 0);
        let expected = sent.clone();
        let server = serving(sent, |_| End::Whole).await;
        assert!(fetch(&impatient(&server), &object("bucket", "key")).await.unwrap() == expected);
        let mut ranges: Vec<_> = server.requests().iter().filter_map(Request::range).collect();
        let requests = server.requests().len();
        assert!(requests <= most, "{requests} requests for {size} bytes");
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no byte is asked for twice: {ranges:?}");
    }
}

#[tokio::test]
async fn a_copy_that_is_held_costs_one_request_and_no_bytes() {
    let server = serving(bytes(MIB, 0), |_| End::Whole).await;
    let asked = impatient(&server).ask(&object("bucket", "key"), Some("\"one\""), Urgency::Wanted).await.unwrap();
    assert!(matches!(asked, Asked::Unchanged));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_disk_that_fails_is_no_outage_of_s3() {
    let server = serving(bytes(3 * MIB, 0), |_| End::Whole).await;
    let s3 = impatient(&server);
    for _ in 0..6 {
        let asked = s3.ask(&object("bucket", "key"), None, Urgency::Wanted).await.unwrap();
        let Asked::Found(incoming) = asked else { panic!("nothing is held") };
        let read_only = Arc::new(std::fs::File::open("/dev/null").unwrap());
        assert!(matches!(incoming.save(read_only).await, Err(FileProblem::CacheDisk(_))));
    }
    assert_eq!(s3.breaker_open(), None);
}

#[tokio::test]
async fn bodies_that_never_arrive_open_the_breaker_too() {
    let server = serving(bytes(MIB / 4, 0), |_| End::Fin(0)).await;
    let s3 = client(S3Settings { retries: 0, ..settings(&server.endpoint) });
    for _ in 0..5 {
        assert!(matches!(fetch(&s3, &object("bucket", "key")).await, Err(FileProblem::Truncated)));
    }
    assert!(matches!(fetch(&s3, &object("bucket", "key")).await, Err(FileProblem::BreakerOpen(_))));
    assert_eq!(server.requests().len(), 5, "while it is open nothing is asked");
}

#[tokio::test]
async fn a_download_needs_no_more_of_the_budget_than_one_part() {
    let sent = bytes(6 * MIB, 0);
    let server = serving(sent.clone(), |_| End::Whole).await;
    let s3 = client(S3Settings { in_flight_bytes: 2 * MIB as u64, ..settings(&server.endpoint) });
    let held = s3.ask(&object("bucket", "key"), None, Urgency::Wanted).await.unwrap();
    assert!(fetch(&s3, &object("bucket", "key")).await.unwrap() == sent, "although half of the budget stays held");
    drop(held);
    let several = (0..5).map(|_| async { fetch(&s3, &object("bucket", "key")).await.unwrap() == sent });
    assert_eq!(futures_util::future::join_all(several).await, [true; 5]);
}

#[tokio::test]
async fn an_object_replaced_before_it_is_resumed_is_not_mixed_either() {
    let versions = [bytes(MIB, 1), bytes(MIB, 2)];
    let server = Scripted::start(move |request| match request.index {
        0 => Answer::object(request, &versions[0], "\"one\"").ending(End::Fin(MIB / 2)),
        _ => Answer::object(request, &versions[1], "\"two\""),
    });
    let problem = fetch(&impatient(&server), &object("bucket", "key")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::Changed), "{problem:?}");
    assert_eq!(server.requests().len(), 3, "the object, the rest of it, and the object once more");
}

#[tokio::test]
async fn a_download_that_nobody_waits_for_any_more_gives_everything_back() {
    let server = serving(bytes(6 * MIB, 0), |_| End::Silence(MIB / 2)).await;
    let s3 = client(S3Settings { in_flight_bytes: 4 * MIB as u64, stall: Duration::from_secs(60), ..settings(&server.endpoint) });
    let (fetching, wanted) = (s3.clone(), object("bucket", "key"));
    let download = tokio::spawn(async move { fetch(&fetching, &wanted).await });
    while server.requests().len() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    download.abort();
    assert!(download.await.unwrap_err().is_cancelled());
    let all = tokio::time::timeout(Duration::from_secs(5), s3.0.budget.take(4 * MIB as u64, Urgency::Wanted)).await;
    assert!(all.is_ok(), "the whole budget is free again");
    assert_eq!(s3.breaker_open(), None);
}

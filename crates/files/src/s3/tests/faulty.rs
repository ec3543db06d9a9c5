//! The client against a server that keeps objects while things go wrong: what is there in the end is what was written.

use std::time::Duration;

use dunnage_testing::s3::Faulty;
use dunnage_testing::s3::faulty::{Algorithm, End, Fault, Matcher, Object};

use super::{client, fetch, object, settings};
use crate::{Bucket, FileProblem, S3, S3Settings};

const LARGE: u64 = (20 << 20) + 5;

fn impatient(server: &Faulty) -> S3 {
    client(S3Settings { stall: Duration::from_millis(200), ..settings(&server.endpoint()) })
}

#[tokio::test]
async fn what_is_written_comes_back_however_unlucky_each_request_is() {
    let server = Faulty::start();
    server.create_bucket("bucket");
    server.script(Matcher::put("bucket/service/large"), [Fault::slow_down(), Fault::HangUp(End::Rst), Fault::LoseAnswer(End::Fin)]);
    server.script(Matcher::method("POST").query("uploadId"), [Fault::internal_error(), Fault::LoseAnswer(End::Rst)]);
    server.script(Matcher::get("bucket/service/large"), [Fault::Cut { after: 1000, with: End::Rst }, Fault::Stall { after: 1 }]);
    server.script(Matcher::method("POST").query("delete"), [Fault::LoseAnswer(End::Fin)]);
    let bytes = Object::made(LARGE, 1).bytes(0..LARGE);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, &bytes).unwrap();
    let place = Bucket::new(impatient(&server), "bucket", "service/");

    place.put("large", &from).await.unwrap();
    place.put_bytes("small", b"small".to_vec(), "text/plain").await.unwrap();
    assert!(server.get("bucket", "service/large").unwrap() == bytes);
    assert_eq!(place.get("large", &to, LARGE).await.unwrap(), LARGE);
    assert!(std::fs::read(&to).unwrap() == bytes);
    assert_eq!(place.get_bytes("small", 10).await.unwrap(), b"small");

    let keys: Vec<String> = place.list("").await.unwrap().into_iter().map(|listed| listed.key).collect();
    assert_eq!(keys, ["large", "small"]);
    assert!(place.remove(&keys).await.unwrap().is_empty());
    assert_eq!((server.keys("bucket").len(), server.open_uploads()), (0, 0));
}

#[tokio::test]
async fn an_object_that_is_replaced_amid_its_parts_is_never_a_mix() {
    let versions = [1, 2].map(|seed| Object::made(LARGE, seed));
    for replaced_at in 1..6 {
        let server = Faulty::start();
        server.put("bucket", "key", versions[0].clone());
        let faults = (0..replaced_at).map(|_| Fault::Pass).chain([Fault::Replace(versions[1].clone())]);
        server.script(Matcher::get("bucket/key"), faults);
        let problem = fetch(&impatient(&server), &object("bucket", "key")).await.unwrap_err();
        assert!(matches!(problem, FileProblem::Changed), "{replaced_at}: {problem:?}");
        assert!(fetch(&impatient(&server), &object("bucket", "key")).await.unwrap() == versions[1].bytes(0..LARGE));
    }
}

#[tokio::test]
async fn a_checksum_of_the_whole_is_held_and_one_of_parts_is_none() {
    let server = Faulty::start();
    let small = || Object::made(500_000, 3);
    server.put("bucket", "right", small().checksum(Algorithm::Crc64Nvme));
    server.put("bucket", "parts", small().composite_checksum(Algorithm::Crc32, 100_000));
    server.put("bucket", "wrong", small().wrong_checksum(Algorithm::Crc64Nvme));
    let s3 = impatient(&server);
    for key in ["right", "parts"] {
        assert!(fetch(&s3, &object("bucket", key)).await.unwrap() == small().bytes(0..500_000), "{key}");
    }
    let problem = fetch(&s3, &object("bucket", "wrong")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::Corrupt), "{problem:?}");
    server.script(Matcher::get("bucket/right"), [Fault::Flip { at: 77_777 }]);
    assert!(fetch(&s3, &object("bucket", "right")).await.unwrap() == small().bytes(0..500_000));
    assert_eq!(server.gets("bucket/right"), 3, "what arrived altered was fetched again");
}

#[tokio::test]
async fn an_outage_ends_when_it_ends() {
    let server = Faulty::start();
    server.put("bucket", "key", "0123456789");
    let s3 = impatient(&server);
    assert_eq!(fetch(&s3, &object("bucket", "key")).await.unwrap(), b"0123456789");
    server.refuse();
    fetch(&s3, &object("bucket", "key")).await.unwrap_err();
    server.accept();
    while let Some(wait) = s3.breaker_open() {
        tokio::time::sleep(wait).await;
    }
    assert_eq!(fetch(&s3, &object("bucket", "key")).await.unwrap(), b"0123456789");
}

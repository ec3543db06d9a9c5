//! What every real server of S3 has to do, and this client with it.

use std::path::Path;
use std::time::Duration;

use dunnage_types::FileAddress;

use super::{contents, fetch, object};
use crate::source::{Asked, ObjectAddress, Source, Urgency};
use crate::{Bucket, FileProblem, S3};

/// Keys that a careless client would change on the way.
const HOSTILE_KEYS: [&str; 14] = [
    "../../etc/passwd",
    "a/../b",
    "./a",
    "/leading",
    "//two",
    "trailing/",
    "a//b",
    "spaces and + plus",
    "percent%2e%2e%252e",
    "question?mark#hash&versionId=1",
    "übergröße/日本語",
    "u\u{308}bergro\u{308}ße",
    "back\\slash",
    "<&\"'>",
];

/// Bytes that differ everywhere.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251 + index / 65_536) as u8).collect()
}

fn file(folder: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join("from");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// In what a server may differ from Amazon's.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// It says when an upload began, so that young ones can be spared.
    pub(super) dates_uploads: bool,
    /// It does not take `/a` for `a`.
    pub(super) keeps_leading_slashes: bool,
}

/// Everything that is the same at all servers, below a prefix of its own.
pub(super) async fn behaves(s3: &S3, bucket: &str, habits: Habits) {
    let place = Bucket::new(s3.clone(), bucket, "service/");
    place.check().await.unwrap();
    objects_of_all_sizes_come_back(&place).await;
    hostile_keys_are_taken_literally(s3, bucket, habits.keeps_leading_slashes).await;
    a_copy_that_is_still_right_is_not_sent(s3, bucket).await;
    listing_finds_everything_once(&place).await;
    what_is_not_there_is_missing(s3, bucket).await;
    broken_uploads_are_ended(s3, bucket, habits.dates_uploads).await;
    a_result_can_be_written_anywhere(s3, bucket).await;
}

async fn objects_of_all_sizes_come_back(place: &Bucket) {
    let folder = tempfile::tempdir().unwrap();
    for size in [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20, (16 << 20) - 1, 16 << 20, (17 << 20) + 321] {
        let (sent, to) = (bytes(size), folder.path().join("to"));
        place.put("object", &file(folder.path(), &sent)).await.unwrap();
        assert_eq!(place.get("object", &to, size as u64).await.unwrap(), size as u64);
        assert!(contents(&std::fs::File::open(&to).unwrap()) == sent, "{size} bytes came back differently");
        std::fs::remove_file(&to).unwrap();
        if let Some(limit) = (size as u64).checked_sub(1) {
            let problem = place.get("object", &to, limit).await.unwrap_err().problem;
            assert!(matches!(problem, FileProblem::TooLarge { .. }), "{problem:?}");
            assert!(!to.exists(), "nothing is left of what is too large");
        }
    }
    std::fs::write(folder.path().join("to"), "mine").unwrap();
    let problem = place.get("object", &folder.path().join("to"), u64::MAX).await.unwrap_err().problem;
    assert!(matches!(problem, FileProblem::CacheDisk(_)), "a file that is there already is left alone: {problem:?}");
    assert_eq!(std::fs::read(folder.path().join("to")).unwrap(), b"mine");
}

async fn hostile_keys_are_taken_literally(s3: &S3, bucket: &str, keeps_leading_slashes: bool) {
    let place = Bucket::new(s3.clone(), bucket, "");
    let long = "k".repeat(1024);
    let keys = HOSTILE_KEYS.into_iter().chain([long.as_str()]);
    let keys: Vec<&str> = keys.filter(|key| keeps_leading_slashes || !key.starts_with('/')).collect();
    for key in &keys {
        place.put_bytes(key, key.as_bytes().to_vec(), "text/plain").await.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    for key in &keys {
        let fetched = fetch(s3, &object(bucket, key)).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(fetched, key.as_bytes(), "{key}");
    }
    let listed: Vec<String> = place.list("").await.unwrap().into_iter().map(|listed| listed.key).collect();
    assert!(keys.iter().all(|key| listed.iter().any(|listed| listed == key)), "{listed:?}");
    let owned: Vec<String> = keys.iter().map(ToString::to_string).collect();
    assert!(place.remove(&owned).await.unwrap().is_empty());
    assert!(matches!(fetch(s3, &object(bucket, keys[0])).await, Err(FileProblem::Missing)));
}

async fn a_copy_that_is_still_right_is_not_sent(s3: &S3, bucket: &str) {
    let (place, address) = (Bucket::new(s3.clone(), bucket, ""), object(bucket, "held"));
    place.put_bytes("held", b"one".to_vec(), "text/plain").await.unwrap();
    let Asked::Found(incoming) = s3.ask(&address, None, Urgency::Wanted).await.unwrap() else { panic!("nothing is held") };
    let etag = incoming.info().etag.clone();
    drop(incoming);
    assert!(matches!(s3.ask(&address, Some(&etag), Urgency::Ahead).await.unwrap(), Asked::Unchanged));
    place.put_bytes("held", b"two".to_vec(), "text/plain").await.unwrap();
    assert!(matches!(s3.ask(&address, Some(&etag), Urgency::Ahead).await.unwrap(), Asked::Found(_)));
}

async fn listing_finds_everything_once(place: &Bucket) {
    let keys: Vec<String> = (0..1_003).map(|index| format!("many/{}/{index:04}", index % 3)).collect();
    for some in keys.chunks(20) {
        let writes = some.iter().map(|key| place.put_bytes(key, key.clone().into_bytes(), "text/plain"));
        futures_util::future::try_join_all(writes).await.unwrap();
    }
    let listed = place.list("many/").await.unwrap();
    let mut expected = keys.clone();
    expected.sort();
    assert_eq!(listed.iter().map(|listed| &listed.key).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert!(listed.iter().all(|listed| listed.size == listed.key.len() as u64));
    assert!(listed.iter().all(|listed| listed.modified.elapsed().unwrap_or_default() < Duration::from_secs(600)));
    assert_eq!(place.folders("many/").await.unwrap(), ["0/", "1/", "2/"]);
    assert_eq!(place.folders("").await.unwrap(), ["many/"]);
    assert_eq!(place.get_bytes("many/0/0000", 11).await.unwrap(), b"many/0/0000");
    assert!(matches!(place.get_bytes("many/0/0000", 10).await.unwrap_err().problem, FileProblem::TooLarge { .. }));
    assert!(place.remove(&keys).await.unwrap().is_empty());
    assert!(place.list("many/").await.unwrap().is_empty());
    assert!(place.remove(&keys[..1]).await.unwrap().is_empty(), "what is not there counts as removed");
}

async fn what_is_not_there_is_missing(s3: &S3, bucket: &str) {
    assert!(matches!(fetch(s3, &object(bucket, "nowhere")).await, Err(FileProblem::Missing)));
    let error = Bucket::new(s3.clone(), bucket, "service/").get_bytes("nowhere", 1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("`s3://{bucket}/service/nowhere`: there is no such file"));
}

async fn broken_uploads_are_ended(s3: &S3, bucket: &str, dates_uploads: bool) {
    let place = Bucket::new(s3.clone(), bucket, "broken/");
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), &bytes(17 << 20));
    // Nobody drops it in order: as after a crash.
    let upload = super::super::upload::Upload::begin(s3, bucket, "broken/crashed").await.unwrap();
    std::mem::forget(upload);
    if dates_uploads {
        assert_eq!(place.abort_stale_uploads(Duration::from_secs(3600)).await.unwrap(), 0, "it is young");
    }
    assert_eq!(place.abort_stale_uploads(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(place.abort_stale_uploads(Duration::ZERO).await.unwrap(), 0);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(20 << 20).unwrap();
    place.put("whole", &path).await.unwrap();
    assert_eq!(place.list("").await.unwrap().len(), 1);
}

async fn a_result_can_be_written_anywhere(s3: &S3, bucket: &str) {
    let address: FileAddress = format!("s3://{bucket}/results/ü 1.json").parse().unwrap();
    s3.put_result(&address, b"{}".to_vec()).await.unwrap();
    assert_eq!(fetch(s3, &object(bucket, "results/ü 1.json")).await.unwrap(), b"{}");
    let version: FileAddress = format!("s3://{bucket}/results/1.json?versionId=1").parse().unwrap();
    assert!(matches!(s3.put_result(&version, b"{}".to_vec()).await.unwrap_err().problem, FileProblem::NotAllowed));
}

/// A bucket that keeps versions: each can be had, and a removed object's too.
pub(super) async fn keeps_versions(s3: &S3, bucket: &str, versions: [&str; 2]) {
    let version = |id: &str| ObjectAddress { version_id: Some(id.to_owned()), ..object(bucket, "versioned") };
    assert_eq!(fetch(s3, &version(versions[0])).await.unwrap(), b"one");
    assert_eq!(fetch(s3, &version(versions[1])).await.unwrap(), b"two");
    assert_eq!(fetch(s3, &object(bucket, "versioned")).await.unwrap(), b"two");
    Bucket::new(s3.clone(), bucket, "").remove(&["versioned".to_owned()]).await.unwrap();
    assert!(matches!(fetch(s3, &object(bucket, "versioned")).await, Err(FileProblem::Missing)));
    assert_eq!(fetch(s3, &version(versions[0])).await.unwrap(), b"one");
    assert!(matches!(fetch(s3, &version("nonsense")).await, Err(FileProblem::Missing)));
}

//! Artifacts in a bucket.

use std::collections::BTreeSet;
use std::time::Duration;

use dunnage_files::FileProblem;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::UploadError;
use super::super::remote::UPLOAD_PATIENCE;
use super::*;

const DAY: Duration = Duration::from_hours(24);

/// A bucket with one artifact, and its name.
async fn stored() -> (Arc<FakeBucket>, ArtifactName) {
    let bucket = Arc::new(FakeBucket::default());
    let artifacts = Site::with(&bucket);
    let artifacts = artifacts.open();
    let name = trained(&artifacts, lease(), "1234").await;
    artifacts.upload(&name).await.unwrap();
    (bucket, name)
}

#[tokio::test]
async fn what_one_replica_stores_another_fetches() {
    let (bucket, name) = stored().await;
    let at = format!("artifacts/tests/{name}");
    assert_eq!(bucket.keys(), [format!("{at}/files/sub/scale"), format!("{at}/files/weights"), format!("{at}/manifest.json")]);
    assert_eq!(bucket.puts().last(), Some(&format!("{at}/manifest.json")), "the manifest comes last");
    let site = Site::with(&bucket);
    let artifacts = site.open();
    assert_eq!(obtained(&artifacts, &name).await.unwrap(), "1234");
    assert_eq!(site.names(), [name.to_string(), format!("{name}.json")]);
    assert_eq!(bucket.take_gets().len(), 3);
    for life in [&artifacts, &site.open()] {
        assert_eq!(obtained(life, &name).await.unwrap(), "1234");
    }
    assert!(bucket.take_gets().is_empty(), "what is here is not fetched again");
}

#[tokio::test]
async fn an_artifact_is_fetched_once_for_all_who_want_it() {
    let (bucket, name) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    let all = join_all((0..20).map(|_| obtained(&artifacts, &name))).await;
    assert!(all.iter().all(|weights| weights.as_deref() == Ok("1234")), "{all:?}");
    assert_eq!(bucket.take_gets().len(), 3);
}

#[tokio::test]
async fn a_damaged_artifact_is_fetched_again() {
    let (bucket, name) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    obtained(&artifacts, &name).await.unwrap();
    let folder = site.folder.path().join(name.to_string());
    fs::write(folder.join("weights"), "4321").unwrap();
    fs::write(folder.join("additional"), "").unwrap();
    assert_eq!(obtained(&artifacts, &name).await.unwrap(), "1234");
    assert!(!folder.join("additional").exists());
    assert_eq!(fs::read_dir(site.folder.path().join("pending")).unwrap().count(), 2);
}

#[tokio::test]
async fn what_the_bucket_holds_is_not_trusted() {
    type Altered = fn(&[u8]) -> Option<Vec<u8>>;
    let table: [(&str, Altered, &str); 6] = [
        ("files/weights", |_| Some(b"1235".to_vec()), "damaged: `weights` has other bytes"),
        ("files/weights", |bytes| Some(bytes[1..].to_vec()), "damaged: `weights` has other bytes"),
        ("files/weights", |bytes| Some([bytes, b"5"].concat()), "5 bytes; the largest"),
        ("files/sub/scale", |_| None, "there is no such file"),
        ("manifest.json", |_| Some(b"{}".to_vec()), "its manifest is not the one that was committed"),
        ("manifest.json", |_| None, "there is no such file"),
    ];
    for (ending, alter, message) in table {
        let (bucket, name) = stored().await;
        bucket.alter(ending, alter);
        let site = Site::with(&bucket);
        let refused = obtained(&site.open(), &name).await.unwrap_err();
        assert!(refused.contains(message) && refused.contains("cannot be fetched from the bucket"), "{refused}");
        assert!(site.names().is_empty(), "nothing is put where workers look");
    }
}

#[tokio::test]
async fn a_download_goes_on_where_an_earlier_one_ended() {
    let (bucket, name) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    let begun = artifacts.local.begin_download(&name).unwrap();
    fs::create_dir(begun.join("sub")).unwrap();
    fs::write(begun.join("sub/scale"), "0.5").unwrap();
    fs::write(begun.join("weights"), "12").unwrap();
    assert_eq!(obtained(&artifacts, &name).await.unwrap(), "1234");
    let fetched = bucket.take_gets();
    assert!(fetched[0].ends_with("/manifest.json") && fetched[1].ends_with("/files/weights"), "{fetched:?}");
    assert_eq!(fetched.len(), 2, "{fetched:?}");
}

#[tokio::test]
async fn what_was_refused_is_fetched_again_when_the_bucket_is_right() {
    let (bucket, name) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    bucket.alter("files/weights", |_| Some(b"1235".to_vec()));
    obtained(&artifacts, &name).await.unwrap_err();
    bucket.alter("files/weights", |_| Some(b"1234".to_vec()));
    assert_eq!(obtained(&artifacts, &name).await.unwrap(), "1234");
}

#[tokio::test]
async fn what_a_download_finds_in_its_way_is_removed() {
    let (bucket, name) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    let way = artifacts.local.begin_download(&name).unwrap();
    fs::write(way.join("part.tmp"), "12").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", way.join("weights")).unwrap();
    assert_eq!(obtained(&artifacts, &name).await.unwrap(), "1234");
    assert_eq!(fs::read_dir(site.folder.path().join(name.to_string())).unwrap().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_could_not_be_stored_is_stored_later() {
    let (bucket, _) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    for number in 1..=3 {
        let name = trained(&artifacts, lease(), "1234").await;
        bucket.fail_puts(move |put| (put == number).then(|| FileProblem::Unavailable("away".to_owned())));
        artifacts.upload(&name).await.unwrap();
        assert_eq!(bucket.puts().len(), 4, "the one that failed, again");
        assert!(bucket.puts().last().unwrap().ends_with("/manifest.json"));
        assert_eq!(obtained(&Site::with(&bucket).open(), &name).await.unwrap(), "1234");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_for_an_hour() {
    let (bucket, _) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    let name = trained(&artifacts, lease(), "1").await;
    bucket.fail_puts(|_| Some(FileProblem::Throttled(None)));
    let begin = Instant::now();
    let error = artifacts.upload(&name).await.unwrap_err();
    assert!(matches!(&error, UploadError::Storage(error) if error.problem.is_transient()), "{error}");
    assert!(begin.elapsed() > UPLOAD_PATIENCE * 9 / 10 && begin.elapsed() <= UPLOAD_PATIENCE, "{:?}", begin.elapsed());
    assert_eq!(artifacts.upload_patience(), UPLOAD_PATIENCE);
    assert_eq!(Site::new().open().upload_patience(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_waited_out() {
    let (bucket, _) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    let name = trained(&artifacts, lease(), "1").await;
    bucket.fail_puts(|put| (put == 2).then_some(FileProblem::Denied));
    let begin = Instant::now();
    let error = artifacts.upload(&name).await.unwrap_err();
    assert!(matches!(&error, UploadError::Storage(error) if matches!(error.problem, FileProblem::Denied)), "{error}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(!bucket.keys().iter().any(|key| key.contains(&name.to_string()) && key.ends_with("/manifest.json")));
    assert!(obtained(&Site::with(&bucket).open(), &name).await.is_err(), "without its manifest it is nothing");
}

#[tokio::test]
async fn a_sweep_of_the_bucket_takes_what_is_old_and_needed_by_nobody() {
    let (bucket, needed) = stored().await;
    let site = Site::with(&bucket);
    let artifacts = site.open();
    let (old, young, growing) =
        (trained(&artifacts, lease(), "2").await, trained(&artifacts, lease(), "3").await, trained(&artifacts, lease(), "4").await);
    for name in [&old, &young, &growing] {
        artifacts.upload(name).await.unwrap();
    }
    bucket.add("artifacts/tests/not ours/file", "1".into());
    bucket.add(&format!("artifacts/other/{old}/files/weights"), "1".into());
    for part in [&needed.to_string(), &old.to_string(), &format!("{growing}/files/weights"), "not ours", "artifacts/other"] {
        bucket.age(part, DAY);
    }
    let wanted: BTreeSet<String> = [needed.to_string()].into();
    assert_eq!(artifacts.sweep_remote(&wanted).await.unwrap(), 1);
    let removed = bucket.removed();
    assert!(removed.iter().all(|key| key.starts_with(&format!("artifacts/tests/{old}/"))), "{removed:?}");
    assert_eq!((removed.len(), removed[0].ends_with("/manifest.json")), (3, true), "the manifest goes first: {removed:?}");
    assert_eq!(artifacts.sweep_remote(&wanted).await.unwrap(), 0);
    assert_eq!(obtained(&Site::with(&bucket).open(), &needed).await.unwrap(), "1234");
}

//! Artifacts on one machine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::name;
use super::*;

const DAY: Duration = Duration::from_hours(24);

async fn swept(artifacts: &Artifacts, needed: &[&ArtifactName], age: Duration) -> usize {
    let needed: BTreeSet<String> = needed.iter().map(ToString::to_string).collect();
    artifacts.sweep_local(Arc::new(needed), age).await.unwrap()
}

#[tokio::test]
async fn an_artifact_is_complete_or_gone() {
    let site = Site::new();
    let artifacts = site.open();
    let (finished, unfinished) = (lease(), lease());
    let name = trained(&artifacts, finished, "1").await;
    let pending = artifacts.begin(unfinished).unwrap();
    fs::write(pending.join("weights"), "2").unwrap();

    let beside = site.open();
    assert!(pending.exists(), "another replica leaves it alone");
    drop((artifacts, beside));

    let reopened = site.open();
    assert_eq!(obtained(&reopened, &name).await.unwrap(), "1");
    let left = fs::read_dir(site.folder.path().join("pending")).unwrap().count();
    assert_eq!(left, 2, "this life's folder and its lock");
    reopened.discard(finished).unwrap();
    assert_eq!(swept(&reopened, &[&name], Duration::ZERO).await, 0);
    assert_eq!(site.names(), [name.to_string(), format!("{name}.json")], "only a sweep removes what is complete");
    fs::create_dir(site.folder.path().join("not ours")).unwrap();
    assert_eq!(swept(&reopened, &[], DAY).await, 0, "it is too young");
    assert_eq!(swept(&reopened, &[], Duration::ZERO).await, 1);
    assert_eq!(site.names(), ["not ours"]);
    reopened.begin(unfinished).unwrap();
}

/// What a crash leaves behind, whichever step of completing an artifact it comes after.
#[tokio::test]
async fn a_crash_between_any_two_steps_leaves_nothing_that_is_taken_for_an_artifact() {
    type Undo = fn(&Path, &Path);
    let before_the_rename: Undo = |folder, _| fs::remove_dir_all(folder).unwrap();
    let with_the_manifest_lost: Undo = |_, manifest| fs::remove_file(manifest).unwrap();
    let before_the_commit: Undo = |_, _| {};
    for (undo, is_complete) in [(before_the_rename, false), (with_the_manifest_lost, false), (before_the_commit, true)] {
        let site = Site::new();
        let artifacts = site.open();
        let published = trained(&artifacts, lease(), "1").await;
        let name = trained(&artifacts, lease(), "2").await;
        let path = |name: String| site.folder.path().join(name);
        undo(&path(name.to_string()), &path(format!("{name}.json")));
        drop(artifacts);

        let reopened = site.open();
        assert_eq!(obtained(&reopened, &name).await.is_ok(), is_complete);
        assert_eq!(swept(&reopened, &[&published], Duration::ZERO).await, 1);
        assert_eq!(site.names(), [published.to_string(), format!("{published}.json")]);
        assert_eq!(obtained(&reopened, &published).await.unwrap(), "1");
    }
}

#[tokio::test]
async fn what_a_life_has_not_completed_goes_with_it() {
    let site = Site::new();
    let artifacts = site.open();
    let pending = artifacts.begin(lease()).unwrap();
    fs::write(pending.join("weights"), "1").unwrap();
    let life = pending.parent().unwrap().to_owned();
    // A manifest that was being written, a download, and an artifact that was being replaced.
    fs::write(life.join("name.json"), "{").unwrap();
    fs::create_dir_all(life.join("download-name/sub")).unwrap();
    fs::create_dir_all(life.join("replaced-name/sub")).unwrap();
    drop(artifacts);
    let reopened = site.open();
    assert!(!life.exists());
    assert!(site.names().is_empty());
    drop(reopened);
}

#[tokio::test]
async fn two_attempts_at_a_job_make_two_artifacts_of_which_one_is_kept() {
    let site = Site::new();
    let artifacts = site.open();
    let first = lease();
    let second = Lease { number: 2, ..first };
    let names = [trained(&artifacts, first, "same").await, trained(&artifacts, second, "same").await];
    assert_ne!(names[0], names[1]);
    assert_eq!(swept(&artifacts, &[&names[1]], Duration::ZERO).await, 1);
    assert!(obtained(&artifacts, &names[0]).await.is_err());
    assert_eq!(obtained(&artifacts, &names[1]).await.unwrap(), "same");
}

/// Training that took days began its folder days ago.
#[tokio::test]
async fn the_age_of_an_artifact_counts_from_its_completion() {
    let site = Site::new();
    let artifacts = site.open();
    let attempt = lease();
    let folder = artifacts.begin(attempt).unwrap();
    let long_ago = SystemTime::now() - 3 * DAY;
    File::open(&folder).unwrap().set_modified(long_ago).unwrap();
    artifacts.complete(attempt).await.unwrap();
    assert_eq!(swept(&artifacts, &[], DAY).await, 0);
}

#[tokio::test]
async fn a_damaged_artifact_is_refused_until_it_is_itself_again() {
    let site = Site::new();
    let artifacts = site.open();
    let name = trained(&artifacts, lease(), "1234").await;
    let weights = site.folder.path().join(name.to_string()).join("weights");
    for bytes in ["1235", "123", "12345"] {
        fs::write(&weights, bytes).unwrap();
        for life in [&artifacts, &site.open()] {
            let refused = obtained(life, &name).await.unwrap_err();
            assert!(refused.starts_with("the artifact of version 7 is damaged: `weights` has "), "{refused}");
        }
    }
    fs::write(&weights, "1234").unwrap();
    assert_eq!(obtained(&artifacts, &name).await.unwrap(), "1234");
}

#[tokio::test]
async fn what_was_found_good_is_not_read_again_until_it_changes() {
    let site = Site::new();
    let artifacts = site.open();
    let name = trained(&artifacts, lease(), "1234").await;
    let folder = site.folder.path().join(name.to_string());
    fs::write(folder.join("weights"), "1235").unwrap();
    let state = super::super::survey::Tree::open(&folder).unwrap().survey(10).unwrap().fingerprint();
    assert!(artifacts.local.check(&name, None).is_err());
    assert_eq!(artifacts.local.check(&name, Some(state)).unwrap(), state, "only its state is looked at");
    fs::write(folder.join("weights"), "1236").unwrap();
    assert!(artifacts.local.check(&name, Some(state)).is_err());
}

#[tokio::test]
async fn a_manifest_that_is_not_the_committed_one_is_refused() {
    type Tampering = fn(&Path, &Path);
    let table: [(Tampering, &str); 7] = [
        (|own, _| fs::write(own, fs::read_to_string(own).unwrap().replace("\"size\":1", "\"size\":2")).unwrap(), "not the one"),
        (|own, other| assert!(fs::copy(other, own).unwrap() > 0), "not the one"),
        (|own, _| fs::write(own, "").unwrap(), "not the one"),
        (|own, _| fs::remove_file(own).unwrap(), "is not in this replica's data folder"),
        (|own, other| replace(own, |own| std::os::unix::fs::symlink(other, own).unwrap()), "cannot be read"),
        (|own, _| replace(own, |own| mknodat(CWD, own, FileType::Fifo, Mode::RUSR, 0).unwrap()), "no plain file"),
        (|own, _| replace(own, |own| fs::create_dir(own).unwrap()), "no plain file"),
    ];
    for (tamper, message) in table {
        let site = Site::new();
        let artifacts = site.open();
        let manifest = |name: &ArtifactName| -> PathBuf { site.folder.path().join(format!("{name}.json")) };
        let (own, other) = (trained(&artifacts, lease(), "1").await, trained(&artifacts, lease(), "2").await);
        tamper(&manifest(&own), &manifest(&other));
        let refused = obtained(&artifacts, &own).await.unwrap_err();
        assert!(refused.contains(message), "{refused}");
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_an_artifact_is_refused_and_its_target_left_alone() {
    let site = Site::new();
    let artifacts = site.open();
    let name = trained(&artifacts, lease(), "1").await;
    let elsewhere = site.folder.path().join("elsewhere");
    let folder = site.folder.path().join(name.to_string());
    fs::rename(&folder, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
    assert!(obtained(&artifacts, &name).await.unwrap_err().contains("is damaged"));
    artifacts.abandon(&name).await.unwrap();
    assert_eq!((read(&elsewhere, "weights").as_str(), folder.symlink_metadata().is_err()), ("1", true));
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_and_frees_its_space() {
    let site = Site::new();
    for (limits, flag) in [
        (ArtifactLimits { bytes: 1000, files: 9 }, "`--max-artifact-files`"),
        (ArtifactLimits { bytes: 99, files: 10 }, "`--max-artifact-bytes`"),
    ] {
        let artifacts = site.open_with(limits);
        let attempt = lease();
        let folder = artifacts.begin(attempt).unwrap();
        (0..10).for_each(|number| fs::write(folder.join(number.to_string()), "0123456789").unwrap());
        let refused = artifacts.complete(attempt).await.unwrap_err().to_string();
        assert!(refused.contains(flag), "{refused}");
        assert!(!folder.exists() && site.names().is_empty());
    }
}

#[tokio::test]
async fn an_artifact_without_a_digest_in_its_name_is_refused_and_swept() {
    let site = Site::new();
    let artifacts = site.open();
    let old = name::of_attempt(lease());
    fs::create_dir(site.folder.path().join(&old)).unwrap();
    let refused = artifacts.obtain(&version(&old)).await.unwrap_err().to_string();
    assert!(refused.contains("names no artifact with a manifest"), "{refused}");
    assert!(artifacts.obtain(&version("../elsewhere")).await.is_err());
    assert_eq!(swept(&artifacts, &[], Duration::ZERO).await, 1);
}

fn replace(path: &Path, put: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    put(path);
}

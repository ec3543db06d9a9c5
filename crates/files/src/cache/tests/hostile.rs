//! What somebody else puts into the folder: it is neither followed nor waited on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::fake::{Setup, object};

/// Puts something hostile in the place of `path`. `secret` must stay as it is.
type Plant = fn(path: &Path, secret: &Path);

const PLANTS: [(&str, Plant); 5] = [
    ("a symbolic link", |path, secret| symlink(secret, path).unwrap()),
    ("a link to nothing", |path, secret| symlink(secret.with_extension("none"), path).unwrap()),
    ("a hard link", |path, secret| fs::hard_link(secret, path).unwrap()),
    ("a FIFO", |path, _| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap()),
    ("a folder", |path, _| fs::create_dir_all(path.join("sub/sub")).unwrap()),
];

async fn warm() -> Setup {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a.bin"), vec![5; 6], "\"1\"");
    setup.s3.put(&object("b.bin"), vec![6; 6], "\"1\"");
    setup.read(&object("a.bin")).await;
    fs::write(setup.folder.path().join("secret"), "secret").unwrap();
    setup
}

fn assert_untouched(setup: &Setup, what: &str) {
    assert_eq!(fs::read(setup.folder.path().join("secret")).unwrap(), b"secret", "{what}");
    assert!(!setup.folder.path().join("secret.none").exists(), "{what}");
}

#[tokio::test]
async fn in_the_place_of_a_cached_file() {
    for (what, plant) in PLANTS {
        let setup = warm().await;
        let began = Instant::now();
        let path = setup.fetch(&object("a.bin")).await.unwrap().path().to_owned();
        fs::remove_file(&path).unwrap();
        plant(&path, &setup.folder.path().join("secret"));
        assert_eq!(setup.read(&object("a.bin")).await, [5; 6], "{what}");
        assert_eq!(setup.on_disk().0.len(), 2, "{what}");
        assert!(began.elapsed() < Duration::from_secs(1), "{what}");
        assert_untouched(&setup, what);
    }
}

#[tokio::test]
async fn in_the_place_of_a_cached_file_across_a_restart() {
    for (what, plant) in PLANTS {
        let setup = warm().await;
        let secret = setup.folder.path().join("secret");
        let names = setup.on_disk().0;
        for name in names {
            let setup = warm().await.restart(|folder| {
                fs::remove_file(folder.join(&name)).unwrap();
                plant(&folder.join(&name), &secret);
            });
            assert_eq!(setup.on_disk().0.len(), 0, "{what}");
            assert_eq!(setup.read(&object("a.bin")).await, [5; 6], "{what}");
            assert_untouched(&setup, what);
        }
        assert_untouched(&setup, what);
    }
}

#[tokio::test]
async fn in_the_place_of_files_that_are_about_to_be_made() {
    for (what, plant) in PLANTS {
        let setup = warm().await;
        let folder = setup.settings.folder.join("1");
        let next = setup.cache.shared.next_id.load(std::sync::atomic::Ordering::Relaxed) + 1;
        let names = super::super::name::Names::new(&object("b.bin"), "\"1\"", super::super::name::FileId(next));
        for name in [format!("part-{next:x}"), format!("part-{next:x}-about"), names.file, names.about] {
            plant(&folder.join(name), &setup.folder.path().join("secret"));
        }
        assert_eq!(setup.read(&object("b.bin")).await, [6; 6], "{what}");
        assert_eq!((setup.on_disk().0.len(), setup.s3.asked()), (4, 2), "{what}");
        assert_untouched(&setup, what);
    }
}

#[tokio::test]
async fn in_the_place_of_a_file_that_is_being_written() {
    for (what, plant) in PLANTS {
        let setup = warm().await;
        setup.s3.open_bodies(false);
        let fetch = setup.begin(&object("b.bin"), crate::source::Urgency::Wanted);
        setup.s3.until_writing(2).await;
        let part = setup.on_disk().0.into_iter().find(|name| name.starts_with("part-")).unwrap();
        let part = setup.settings.folder.join("1").join(part);
        fs::remove_file(&part).unwrap();
        plant(&part, &setup.folder.path().join("secret"));
        setup.s3.open_bodies(true);
        assert_eq!(fs::read(fetch.await.unwrap().unwrap().path()).unwrap(), [6; 6], "{what}");
        assert_eq!(setup.on_disk().0.len(), 4, "{what}");
        assert_untouched(&setup, what);
    }
}

#[tokio::test]
async fn keys_never_lead_out_of_the_folder() {
    let setup = Setup::new(|_| {});
    let root = setup.settings.folder.canonicalize().unwrap().join("1");
    let long = "k".repeat(1024);
    let keys = [
        "..",
        "../../x",
        "/etc/passwd",
        "a/../b",
        "a\\..\\b",
        "%2e%2e/x",
        "%252e",
        "a//b",
        "a/b",
        "a/",
        "a",
        "/a",
        "\u{e9}",
        "e\u{301}",
        ".",
        "about-x.json",
        "part-1",
        &long,
    ];
    let mut paths = std::collections::HashSet::new();
    for (number, key) in keys.iter().enumerate() {
        setup.s3.put(&object(key), vec![number as u8], "\"1\"");
        let cached = setup.fetch(&object(key)).await.unwrap();
        assert_eq!(cached.path().canonicalize().unwrap().parent(), Some(root.as_path()), "{key}");
        assert!(paths.insert(cached.path().to_owned()), "{key}");
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(setup.read(&object(key)).await, [number as u8], "{key}");
    }
    let kept = setup.on_disk();
    let setup = setup.restart(|_| {});
    assert_eq!(setup.on_disk(), kept, "all of them survive a restart");
}

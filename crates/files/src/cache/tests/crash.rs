//! What earlier lives leave, as they ended at any moment or lost power.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fake::{Setup, list, object};
use crate::cache::Revalidate;

/// A cache that has fetched `a.bin`.
async fn warm(revalidate: Revalidate) -> Setup {
    let setup = Setup::new(|settings| settings.revalidate = revalidate);
    setup.s3.put(&object("a.bin"), vec![5; 100_000], "\"1\"");
    setup.read(&object("a.bin")).await;
    setup
}

/// Does something to a file or a folder.
type Change = fn(&Path);

fn file(folder: &Path, begins: impl Fn(&str) -> bool) -> PathBuf {
    let (names, _) = list(folder);
    folder.join(names.into_iter().find(|name| begins(name)).unwrap())
}

fn object_file(folder: &Path) -> PathBuf {
    file(folder, |name| name.ends_with(".bin"))
}

fn about_file(folder: &Path) -> PathBuf {
    file(folder, |name| name.starts_with("about-"))
}

/// Changes bytes of a file without a trace in its status, as a disk does.
fn damage(path: &Path, bytes: &[u8]) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[tokio::test]
async fn a_restart_keeps_the_files() {
    for revalidate in [Revalidate::Never, Revalidate::Always, Revalidate::After(Duration::from_secs(600))] {
        let setup = warm(revalidate).await;
        let before = setup.on_disk();
        let setup = setup.restart(|_| {});
        assert_eq!(setup.cache.counters().bytes, before.1);
        assert_eq!(setup.read(&object("a.bin")).await, vec![5; 100_000]);
        let questions = usize::from(revalidate == Revalidate::Always);
        assert_eq!((setup.s3.asked(), setup.s3.conditional()), (1 + questions, questions), "{revalidate}");
        assert_eq!((setup.cache.counters().hits, setup.cache.counters().bytes_fetched), (1, 0));
        setup.read(&object("a.bin")).await;
        assert_eq!(setup.on_disk(), before);
    }
}

#[tokio::test]
async fn a_file_is_read_through_once_after_a_restart_however_many_want_it() {
    let setup = warm(Revalidate::Never).await.restart(|_| {});
    let waiters: Vec<_> = (0..50).map(|_| setup.begin(&object("a.bin"), crate::source::Urgency::Wanted)).collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().size(), 100_000);
    }
    assert_eq!((setup.s3.asked(), setup.cache.counters().hits), (1, 50));
}

#[tokio::test]
async fn a_file_that_lost_its_bytes_is_fetched_again() {
    let mut flipped = vec![5; 100_000];
    flipped[77_777] ^= 1;
    let damages: [(&str, Vec<u8>); 5] = [
        ("a flipped bit", flipped),
        ("zeros", vec![0; 100_000]),
        ("cut off", vec![5; 4096]),
        ("empty", vec![]),
        ("too long", vec![5; 100_001]),
    ];
    for (what, bytes) in damages {
        let setup = warm(Revalidate::Never).await.restart(|folder| damage(&object_file(folder), &bytes));
        assert_eq!(setup.read(&object("a.bin")).await, vec![5; 100_000], "{what}");
        assert_eq!(setup.s3.asked(), 2, "{what}");
        assert_eq!(setup.on_disk().0.len(), 2, "{what}");
        assert_eq!(setup.on_disk().1, setup.cache.counters().bytes, "{what}");
    }
}

#[tokio::test]
async fn a_file_that_is_changed_or_removed_while_the_server_runs_is_fetched_again() {
    let changes: [(&str, Change); 4] = [
        ("cut off", |path| fs::File::options().write(true).open(path).unwrap().set_len(5).unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("written", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("exchanged", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, vec![6; 100_000]).unwrap();
        }),
    ];
    for (what, change) in changes {
        let setup = warm(Revalidate::Never).await;
        let path = object_file(&setup.settings.folder.join("1"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        change(&path);
        assert_eq!(setup.read(&object("a.bin")).await, vec![5; 100_000], "{what}");
        assert_eq!((setup.s3.asked(), setup.on_disk().0.len()), (2, 2), "{what}");
        assert_eq!(setup.on_disk().1, setup.cache.counters().bytes, "{what}");
    }
}

#[tokio::test]
async fn whatever_a_crash_leaves_is_either_a_pair_or_swept() {
    let steps: [(&str, bool, Change); 8] = [
        ("while the object was written", true, |folder| fs::write(folder.join("part-9"), "half").unwrap()),
        ("while what tells about it was written", true, |folder| {
            fs::write(folder.join("part-9"), "all").unwrap();
            fs::write(folder.join("part-9-about"), "{\"buck").unwrap();
        }),
        ("before the object got its name", false, |folder| fs::rename(object_file(folder), folder.join("part-9")).unwrap()),
        ("while it was removed", false, |folder| fs::remove_file(about_file(folder)).unwrap()),
        ("with a lost text", false, |folder| damage(&about_file(folder), b"")),
        ("with a text of zeros", false, |folder| damage(&about_file(folder), &[0; 200])),
        ("with a text of another file", false, |folder| {
            let text = fs::read_to_string(about_file(folder)).unwrap();
            damage(&about_file(folder), text.replace("a.bin", "b.bin").as_bytes());
        }),
        ("with a text that is too long", false, |folder| damage(&about_file(folder), &vec![b' '; 1 << 20])),
    ];
    for (what, survives, leave) in steps {
        let setup = warm(Revalidate::Never).await.restart(leave);
        assert_eq!(setup.on_disk().0.len(), if survives { 2 } else { 0 }, "{what}");
        assert_eq!(setup.on_disk().1, setup.cache.counters().bytes, "{what}");
        assert_eq!(setup.read(&object("a.bin")).await, vec![5; 100_000], "{what}");
        assert_eq!(setup.s3.asked(), if survives { 1 } else { 2 }, "{what}");
    }
}

#[tokio::test]
async fn of_two_copies_that_a_crash_left_the_newer_one_counts() {
    let setup = warm(Revalidate::Always).await;
    let old = setup.fetch(&object("a.bin")).await.unwrap();
    setup.s3.put(&object("a.bin"), vec![6; 10], "\"2\"");
    let new = setup.fetch(&object("a.bin")).await.unwrap();
    let crashed = tempfile::tempdir().unwrap();
    for name in setup.on_disk().0 {
        fs::copy(setup.settings.folder.join("1").join(&name), crashed.path().join(&name)).unwrap();
    }
    assert_eq!(list(crashed.path()).0.len(), 4);
    drop((old, new));
    let mut setup = setup;
    setup.settings.revalidate = Revalidate::Never;
    let setup = setup.restart(|folder| {
        fs::remove_dir_all(folder).unwrap();
        fs::rename(crashed.path(), folder).unwrap();
    });
    assert_eq!(setup.on_disk().0.len(), 2);
    assert_eq!(setup.read(&object("a.bin")).await, vec![6; 10]);
    assert_eq!(setup.s3.asked(), 3);
}

#[tokio::test]
async fn a_smaller_capacity_holds_after_a_restart() {
    let mut setup = Setup::new(|_| {});
    for number in 0..10 {
        setup.s3.put(&object(&number.to_string()), vec![number; 10_000], "\"1\"");
        setup.read(&object(&number.to_string())).await;
    }
    setup.settings.capacity = 35_000;
    let setup = setup.restart(|_| {});
    assert!(setup.on_disk().1 <= 35_000 && setup.on_disk().0.len() == 6);
    setup.read(&object("9")).await;
    assert_eq!(setup.s3.asked(), 10, "the latest are kept");
}

#[tokio::test]
async fn replicas_that_share_a_folder_do_not_share_files() {
    let setup = warm(Revalidate::Never).await;
    let source = std::sync::Arc::new(super::fake::Wire(setup.s3.clone()));
    let other = crate::cache::Cache::open(setup.settings.clone(), source).unwrap();
    other.prefetch(&object("a.bin")).await.unwrap();
    assert_eq!(setup.s3.asked(), 2);
    assert_eq!(list(&setup.settings.folder.join("2")).0.len(), 2);
    drop(other);
    setup.read(&object("a.bin")).await;
}

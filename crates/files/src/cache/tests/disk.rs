//! Disks that are full, read-only or gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::fake::{Setup, list, object};
use crate::FileProblem;
use crate::cache::trouble::PROBE_EVERY;
use crate::source::Urgency;

/// A small disk of its own.
struct Tmpfs {
    path: PathBuf,
    _outer: tempfile::TempDir,
}

impl Tmpfs {
    /// `None`, with a word about it, where this is not allowed.
    fn mount(bytes: u64) -> Option<Self> {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("disk");
        fs::create_dir(&path).unwrap();
        if !run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], &path) {
            eprintln!("SKIPPED: mounting a small disk takes a privilege that this user does not have");
            return None;
        }
        Some(Self { path, _outer: outer })
    }

    fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}")], &self.path));
    }

    fn cache(&self, capacity: u64) -> Setup {
        Setup::new(|settings| (settings.folder, settings.capacity) = (self.path.join("cache"), capacity))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.path);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).args(arguments).arg(path).output().is_ok_and(|output| output.status.success())
}

async fn is_mended(setup: &Setup) {
    while setup.cache.trouble().is_some() {
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_and_gets_well_without_traffic() {
    let Some(disk) = Tmpfs::mount(256 << 10) else { return };
    let setup = disk.cache(1 << 20);
    setup.s3.put(&object("a"), vec![1; 100 << 10], "\"1\"");
    fs::write(disk.path.join("of-others"), vec![0; 512 << 10]).unwrap_err();
    let problem = setup.fetch(&object("a")).await.unwrap_err();
    let FileProblem::CacheDisk(error) = &problem else { panic!("{problem:?}") };
    assert_eq!(error.get().kind(), std::io::ErrorKind::StorageFull);
    assert!(setup.cache.trouble().unwrap().contains("No space left"));
    assert_eq!((setup.on_disk(), setup.cache.counters().bytes), ((vec![], 0), 0));
    tokio::time::sleep(4 * PROBE_EVERY).await;
    assert!(setup.cache.trouble().is_some(), "it is still full");
    assert_eq!(setup.s3.asked(), 1, "nothing is tried that cannot help");

    fs::remove_file(disk.path.join("of-others")).unwrap();
    is_mended(&setup).await;
    assert_eq!(setup.read(&object("a")).await.len(), 100 << 10);
}

#[tokio::test]
async fn a_disk_that_is_smaller_than_the_cache_loses_old_files_for_new_ones() {
    let Some(disk) = Tmpfs::mount(512 << 10) else { return };
    let setup = disk.cache(1 << 30);
    for number in 0..20 {
        setup.s3.put(&object(&number.to_string()), vec![number; 100 << 10], "\"1\"");
        assert_eq!(setup.read(&object(&number.to_string())).await, vec![number; 100 << 10]);
    }
    assert!(setup.cache.counters().evictions >= 15);
    assert_eq!(setup.cache.trouble(), None);
    assert_eq!(setup.cache.counters().bytes, setup.on_disk().1);
}

#[tokio::test(start_paused = true)]
async fn a_read_only_disk_is_told_and_gets_well_without_traffic() {
    let Some(disk) = Tmpfs::mount(1 << 20) else { return };
    let setup = disk.cache(100 << 10);
    for key in ["a", "b"] {
        setup.s3.put(&object(key), vec![1; 60 << 10], "\"1\"");
    }
    setup.read(&object("a")).await;
    disk.remount("ro");
    assert!(matches!(setup.fetch(&object("b")).await, Err(FileProblem::CacheDisk(_))));
    assert!(setup.cache.trouble().unwrap().contains("Read-only"));
    assert_eq!(setup.cache.counters().bytes, setup.on_disk().1, "what cannot be removed goes on counting");
    tokio::time::sleep(4 * PROBE_EVERY).await;
    assert!(setup.cache.trouble().is_some());
    disk.remount("rw");
    is_mended(&setup).await;
    assert_eq!(setup.read(&object("b")).await.len(), 60 << 10);
    assert_eq!(setup.cache.counters().bytes, setup.on_disk().1);
}

#[tokio::test(start_paused = true)]
async fn what_a_disk_does_not_let_go_of_counts_until_it_does() {
    let Some(disk) = Tmpfs::mount(1 << 20) else { return };
    let setup = disk.cache(100 << 10);
    setup.s3.put(&object("a"), vec![1; 60 << 10], "\"1\"");
    setup.s3.open_bodies(false);
    let fetch = setup.begin(&object("a"), Urgency::Wanted);
    setup.s3.until_writing(1).await;
    let folder = setup.settings.folder.join("1");
    if !run("chattr", &["+i"], &folder) {
        eprintln!("SKIPPED: this file system knows no immutable folders");
        return;
    }
    setup.s3.open_bodies(true);
    let problem = fetch.await.unwrap().unwrap_err();
    assert!(matches!(problem, FileProblem::CacheDisk(_)), "{problem:?}");
    assert_eq!(setup.on_disk().0.len(), 1);
    assert!(setup.cache.counters().bytes >= setup.on_disk().1 && setup.on_disk().1 > 0);
    tokio::time::sleep(4 * PROBE_EVERY).await;
    assert!(setup.cache.trouble().is_some());
    assert!(run("chattr", &["-i"], &folder));
    is_mended(&setup).await;
    assert_eq!((setup.on_disk().0.len(), setup.cache.counters().bytes), (0, 0));
    assert_eq!(setup.read(&object("a")).await.len(), 60 << 10);
}

#[tokio::test]
async fn a_folder_removed_while_files_are_fetched_is_made_again() {
    let setup = Setup::new(|_| {});
    for key in ["a", "b", "c"] {
        setup.s3.put(&object(key), vec![key.as_bytes()[0]; 1000], "\"1\"");
    }
    let held = setup.fetch(&object("a")).await.unwrap();
    setup.s3.open_bodies(false);
    let fetch = setup.begin(&object("b"), Urgency::Wanted);
    setup.s3.until_writing(2).await;
    fs::remove_dir_all(&setup.settings.folder).unwrap();
    setup.s3.open_bodies(true);
    assert_eq!(fs::read(fetch.await.unwrap().unwrap().path()).unwrap(), vec![b'b'; 1000]);
    for key in ["a", "b", "c"] {
        assert_eq!(setup.read(&object(key)).await, vec![key.as_bytes()[0]; 1000]);
    }
    drop(held);
    assert_eq!(setup.cache.trouble(), None);
    assert_eq!((setup.on_disk().0.len(), setup.on_disk().1), (6, setup.cache.counters().bytes));
}

#[tokio::test]
async fn a_folder_that_was_moved_is_not_written_to() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a"), vec![1; 1000], "\"1\"");
    let away = setup.folder.path().join("away");
    fs::rename(&setup.settings.folder, &away).unwrap();
    assert_eq!(setup.read(&object("a")).await, vec![1; 1000]);
    assert_eq!((setup.on_disk().0.len(), list(&away.join("1")).0.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_folder_replaced_by_a_file_is_told_and_gets_well() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a"), vec![1; 1000], "\"1\"");
    setup.read(&object("a")).await;
    fs::remove_dir_all(&setup.settings.folder).unwrap();
    fs::write(&setup.settings.folder, "").unwrap();
    assert!(matches!(setup.fetch(&object("a")).await, Err(FileProblem::CacheDisk(_))));
    assert!(setup.cache.trouble().is_some());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(setup.cache.trouble().is_some());
    fs::remove_file(&setup.settings.folder).unwrap();
    is_mended(&setup).await;
    assert_eq!(setup.read(&object("a")).await, vec![1; 1000]);
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_at_the_start() {
    let open = |folder: PathBuf| {
        let source = std::sync::Arc::new(super::fake::Wire(super::fake::FakeS3::new().into()));
        let settings = Setup::new(|_| {}).settings;
        crate::cache::Cache::open(crate::cache::CacheSettings { folder, ..settings }, source).unwrap_err().to_string()
    };
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("file"), "").unwrap();
    let refusal = open(outer.path().join("file"));
    assert!(refusal.contains("/file` cannot be used") && refusal.contains("--cache-dir"), "{refusal}");

    let Some(disk) = Tmpfs::mount(1 << 20) else { return };
    disk.remount("ro");
    assert!(open(disk.path.join("cache")).contains("Read-only"));
}

//! Many objects through a cache that is too small for them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fake::{Setup, list, object};
use crate::cache::{Cached, Revalidate};

const OBJECTS: u64 = 10_000;
const CAPACITY: u64 = 10 << 20;
const TASKS: u64 = 8;

/// Numbers that look random and are the same every time.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Its own number and version, over and over, so that any wrong byte shows.
fn contents(number: u64, version: u64) -> Vec<u8> {
    let size = (mixed(number) % (16 << 10)) as usize;
    let mut bytes = mixed(number << 16 | version).to_le_bytes().repeat(size / 8 + 1);
    bytes.truncate(size);
    bytes
}

fn assert_right(cached: &Cached, number: u64) {
    let bytes = std::fs::read(cached.path()).expect("a file in use is there");
    let version = cached.etag().trim_matches('"').parse().unwrap();
    assert!(bytes == contents(number, version), "object {number} has wrong bytes");
}

async fn read_many(setup: Arc<Setup>, task: u64, replaced: bool) {
    let mut in_use: Vec<(Cached, u64)> = Vec::new();
    for step in 0..OBJECTS / TASKS * 2 {
        // Half of all reads come back to a few popular objects.
        let random = mixed(task << 32 | step);
        let number = if random & 1 == 0 { random % 200 } else { (step * TASKS + task) % OBJECTS };
        if replaced && random.is_multiple_of(31) {
            setup.s3.put(&object(&number.to_string()), contents(number, step), &format!("\"{step}\""));
        }
        let cached = setup.fetch(&object(&number.to_string())).await.unwrap();
        assert_right(&cached, number);
        in_use.push((cached, number));
        if in_use.len() > 20 {
            let (cached, number) = in_use.swap_remove((random % 20) as usize);
            assert_right(&cached, number);
        }
    }
}

/// Walks the folder until told to stop, and returns the most bytes it saw and how often it looked.
fn watch(setup: &Setup, done: &AtomicBool) -> (u64, u64) {
    let (mut most, mut looks) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        // A walk sees different files at different times, so only one during which nothing changed can be believed.
        let before = list(&setup.settings.folder.join("1"));
        let after = list(&setup.settings.folder.join("1"));
        if before.0 == after.0 {
            most = most.max(after.1);
            looks += 1;
        }
        assert!(setup.cache.counters().bytes <= CAPACITY);
        std::thread::yield_now();
    }
    (most, looks)
}

async fn ten_thousand_objects(revalidate: Revalidate) -> Arc<Setup> {
    let replaced = revalidate == Revalidate::Always;
    let setup = Arc::new(Setup::new(|settings| (settings.capacity, settings.revalidate) = (CAPACITY, revalidate)));
    for number in 0..OBJECTS {
        setup.s3.put(&object(&number.to_string()), contents(number, 0), "\"0\"");
    }
    let (done, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watcher = {
        let (setup, done, most) = (setup.clone(), done.clone(), most.clone());
        std::thread::spawn(move || {
            let (seen, looks) = watch(&setup, &done);
            most.store(seen, Ordering::Relaxed);
            looks
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(read_many(setup.clone(), task, replaced))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let looks = watcher.join().unwrap();
    eprintln!("{looks} looks at the folder, {} bytes at most of {CAPACITY}", most.load(Ordering::Relaxed));
    assert!(looks > 0 && most.load(Ordering::Relaxed) <= CAPACITY);
    setup
}

fn assert_consistent(setup: &Setup) {
    let counters = setup.cache.counters();
    let (names, bytes) = setup.on_disk();
    assert_eq!((names.len() as u64, bytes), (2 * counters.files, counters.bytes));
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    assert!(counters.evictions > OBJECTS / 2 && counters.bytes > CAPACITY / 2);
    assert_eq!(counters.hits + counters.misses, 2 * OBJECTS);
    assert_eq!((counters.disk_failures, setup.cache.trouble()), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_objects_through_a_small_cache() {
    let setup = ten_thousand_objects(Revalidate::Never).await;
    assert_consistent(&setup);
    assert!(setup.cache.counters().hits > OBJECTS / 2, "the popular ones stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_objects_that_change_through_a_small_cache() {
    let setup = ten_thousand_objects(Revalidate::Always).await;
    assert_consistent(&setup);
}

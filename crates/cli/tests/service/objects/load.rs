//! Many objects through a cache that does not hold them all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::language::Language;
use dunnage_testing::setup::Setup;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{body, cached, metric, reaching};

/// The first six bytes of the SHA-256 of a file.
const HASH: &str = r#"
import hashlib

def output(files, ctx):
    return list(hashlib.sha256(files[0].read()).digest()[:6])
"#;

/// How many there are, unless `DUNNAGE_LOAD_OBJECTS` says otherwise; a tenth more are asked for, so that some are asked for again.
const OBJECTS: usize = 2000;
const CLIENTS: usize = 16;
const CAPACITY: u64 = 100 << 20;

fn objects() -> usize {
    std::env::var("DUNNAGE_LOAD_OBJECTS").map_or(OBJECTS, |count| count.parse().expect("DUNNAGE_LOAD_OBJECTS is a number"))
}

fn contents(key: &str) -> Vec<u8> {
    let mut random = rand::rngs::SmallRng::seed_from_u64(key.parse().unwrap());
    let mut bytes = [0; 1021];
    random.fill_bytes(&mut bytes);
    let size = random.random_range(0..=200 << 10);
    let mut whole = bytes.repeat(size / bytes.len() + 1);
    whole.truncate(size);
    whole
}

fn expected(key: &str) -> Vec<f64> {
    Sha256::digest(contents(key))[..6].iter().map(|byte| f64::from(*byte)).collect()
}

/// The bytes of all files in the cache at one moment: the service stands still meanwhile.
fn folder_bytes(setup: &Setup, service: &dunnage_testing::service::Service) -> u64 {
    service.pause();
    eventually("it stands still", super::PATIENCE, || stands_still(service.pid()).then_some(()));
    let bytes = cached(setup).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    service.resume();
    bytes
}

/// Whether every thread of a process is stopped: the signal reaches them one after the other.
fn stands_still(pid: i32) -> bool {
    let is_stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| is_stopped(task.unwrap()))
}

#[test]
fn more_objects_than_the_cache_holds_pass_without_a_wrong_byte_or_a_byte_too_many() {
    let s3 = super::serving(contents);
    let setup = reaching(Setup::inline(Language::Python, "hash", HASH), &s3.endpoint);
    let setup = setup.flags(&["--cache-bytes", "100MiB", "--workers", "2"]);
    let service = setup.start();
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let most = std::thread::scope(|scope| {
        let sampling = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(300));
                most = most.max(folder_bytes(&setup, &service));
            }
            most
        });
        let client = || loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= objects() / 10 * 11 {
                return;
            }
            // All of them once, then some once more, in another order.
            let key = (if index < objects() { index } else { index * 7919 % objects() }).to_string();
            assert_eq!(service.output(&body(&[&key], json!({}))), expected(&key), "{key}");
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        for client in clients {
            client.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        sampling.join().unwrap()
    });
    assert!(most <= CAPACITY, "the cache has taken up {most} bytes");
    assert!(most > CAPACITY / 2, "it has been used: {most}");
    assert!(metric(&service, "dunnage_file_cache_evictions_total") > 100.0);
}

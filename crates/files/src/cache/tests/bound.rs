//! The bound, and who has to give way.

use std::time::Duration;

use super::fake::{Setup, object};
use crate::FileProblem;
use crate::cache::{RequestQuota, Revalidate};
use crate::source::Urgency;

/// What a file of `size` bytes takes up with what is kept beside it.
async fn bytes_of(size: usize) -> u64 {
    let setup = filled(1 << 20, 1, size);
    setup.read(&object("0")).await;
    setup.cache.counters().bytes
}

/// A cache of `capacity` bytes, and objects "0", "1", … of `size` bytes.
fn filled(capacity: u64, objects: usize, size: usize) -> Setup {
    let setup = Setup::new(|settings| settings.capacity = capacity);
    for number in 0..objects {
        setup.s3.put(&object(&number.to_string()), vec![number as u8; size], "\"1\"");
    }
    setup
}

async fn is_held(setup: &Setup, key: &str) -> bool {
    setup.cache.shared.state().index.current(&object(key)).is_some()
}

#[tokio::test]
async fn the_least_recently_used_goes_first() {
    let setup = filled(3 * bytes_of(1000).await, 5, 1000);
    for key in ["0", "1", "2", "0", "3"] {
        setup.read(&object(key)).await;
    }
    assert!(is_held(&setup, "0").await && !is_held(&setup, "1").await && is_held(&setup, "2").await);
    setup.read(&object("4")).await;
    assert!(is_held(&setup, "0").await && !is_held(&setup, "2").await);
    assert_eq!(setup.cache.counters().evictions, 2);
    assert_eq!(setup.on_disk().1, setup.settings.capacity);
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_refused_before_its_first_byte() {
    let setup = Setup::new(|settings| (settings.capacity, settings.max_file) = (2000, 1000));
    setup.s3.put(&object("a"), vec![1; 1001], "\"1\"");
    let problem = setup.fetch(&object("a")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::TooLarge { size: 1001, limit: 1000, .. }));

    let setup = Setup::new(|settings| settings.capacity = 2000);
    setup.s3.put(&object("a"), vec![1; 2000], "\"1\"");
    let problem = setup.fetch(&object("a")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::TooLarge { size: 2000, flag: "--cache-bytes", .. }));
    assert_eq!((*setup.s3.writing.borrow(), setup.on_disk().1), (0, 0));
}

#[tokio::test]
async fn a_request_that_is_too_large_does_not_wait_for_itself() {
    let each = bytes_of(1000).await;
    let setup = filled(2 * each + each / 2, 3, 1000);
    let request = RequestQuota::default();
    let fetch = async |key: &str| setup.cache.fetch(&object(key), Urgency::Wanted, &request).await;
    let held = [fetch("0").await.unwrap(), fetch("1").await.unwrap(), fetch("0").await.unwrap()];
    let problem = fetch("2").await.unwrap_err();
    assert!(matches!(problem, FileProblem::TooLargeTogether { limit } if limit == setup.settings.capacity));
    assert!(held.iter().all(|cached| cached.path().exists()));
}

#[tokio::test(start_paused = true)]
async fn a_cache_full_of_files_in_use_says_so_and_recovers() {
    let setup = filled(2 * bytes_of(1000).await, 3, 1000);
    let (first, second) = (setup.fetch(&object("0")).await.unwrap(), setup.fetch(&object("1")).await.unwrap());
    let began = tokio::time::Instant::now();
    assert!(matches!(setup.fetch(&object("2")).await, Err(FileProblem::CacheFull)));
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(first.path().exists() && second.path().exists());

    let waiting = setup.begin(&object("2"), Urgency::Wanted);
    setup.s3.until_asked(4).await;
    let path = first.path().to_owned();
    drop(first);
    assert_eq!(waiting.await.unwrap().unwrap().size(), 1000);
    assert!(!path.exists() && second.path().exists());
}

#[tokio::test]
async fn small_files_do_not_starve_a_large_one() {
    let each = bytes_of(1000).await;
    let setup = filled(3 * each, 6, 1000);
    setup.s3.put(&object("large"), vec![9; 2 * each as usize], "\"1\"");
    let mut held = Vec::new();
    for key in ["0", "1"] {
        held.push(setup.fetch(&object(key)).await.unwrap());
    }
    let large = setup.begin(&object("large"), Urgency::Wanted);
    setup.s3.until_asked(3).await;
    while setup.cache.shared.turn.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    // There would be room for a small one, but it came later.
    let small = setup.begin(&object("2"), Urgency::Wanted);
    setup.s3.until_asked(4).await;
    assert!(matches!(setup.cache.prefetch(&object("3")).await, Err(FileProblem::CacheFull)), "who fetches ahead gives way");
    assert!(!large.is_finished() && !small.is_finished());
    drop(held);
    assert_eq!(large.await.unwrap().unwrap().size(), 2 * each);
    assert_eq!(small.await.unwrap().unwrap().size(), 1000);
}

#[tokio::test]
async fn what_was_fetched_ahead_is_not_driven_out_by_what_is_fetched_ahead() {
    let setup = filled(2 * bytes_of(1000).await, 4, 1000);
    setup.cache.prefetch(&object("0")).await.unwrap();
    setup.cache.prefetch(&object("1")).await.unwrap();
    assert!(matches!(setup.cache.prefetch(&object("2")).await, Err(FileProblem::CacheFull)));
    setup.read(&object("0")).await;
    setup.cache.prefetch(&object("2")).await.unwrap();
    assert!(!is_held(&setup, "0").await && is_held(&setup, "1").await);
    setup.read(&object("3")).await;
    assert!(!is_held(&setup, "1").await, "what is wanted drives out anything");
    assert_eq!(setup.s3.asked(), 5);
}

#[tokio::test]
async fn a_replaced_copy_makes_room_for_what_replaces_it() {
    let each = bytes_of(1000).await;
    let setup = Setup::new(|settings| (settings.capacity, settings.revalidate) = (each + 500, Revalidate::Always));
    for etag in ["\"1\"", "\"2\"", "\"3\""] {
        setup.s3.put(&object("0"), vec![1; 1000], etag);
        assert_eq!(setup.fetch(&object("0")).await.unwrap().etag(), etag);
    }
    assert_eq!(setup.on_disk().1, each);
}

#[tokio::test(start_paused = true)]
async fn room_that_nobody_waits_for_any_more_goes_to_the_next() {
    let setup = filled(bytes_of(1000).await, 3, 1000);
    let held = setup.fetch(&object("0")).await.unwrap();
    let first = setup.begin(&object("1"), Urgency::Wanted);
    setup.s3.until_asked(2).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = setup.begin(&object("2"), Urgency::Wanted);
    setup.s3.until_asked(3).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    drop(held);
    assert_eq!(second.await.unwrap().unwrap().size(), 1000);
}

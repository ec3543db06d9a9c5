//! One fetch for all who want the same object.

use std::time::Duration;

use super::fake::{Setup, object};
use crate::FileProblem;
use crate::source::Urgency;

#[tokio::test]
async fn five_hundred_who_want_a_cold_object_cause_one_download() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a.bin"), vec![7; 8 << 10], "\"1\"");
    setup.s3.open_bodies(false);
    let waiters: Vec<_> = (0..500).map(|_| setup.begin(&object("a.bin"), Urgency::Wanted)).collect();
    setup.s3.until_writing(1).await;
    while setup.cache.shared.state().flights[&object("a.bin")].waiters() < 500 {
        tokio::task::yield_now().await;
    }
    setup.s3.open_bodies(true);
    for waiter in waiters {
        let cached = waiter.await.unwrap().unwrap();
        assert_eq!((cached.size(), cached.etag()), (8 << 10, "\"1\""));
        assert!(cached.path().to_str().unwrap().ends_with(".bin"));
    }
    assert_eq!(setup.s3.asked(), 1);
    assert_eq!((setup.cache.counters().misses, setup.cache.counters().bytes_fetched), (500, 8 << 10));
    setup.fetch(&object("a.bin")).await.unwrap();
    assert_eq!((setup.cache.counters().hits, setup.s3.asked()), (1, 1));
}

#[tokio::test]
async fn a_failure_is_shared_by_all_and_not_remembered() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a"), "a", "\"1\"");
    setup.s3.fail(Some(FileProblem::Throttled(None)));
    setup.s3.open_questions(false);
    let waiters: Vec<_> = (0..20).map(|_| setup.begin(&object("a"), Urgency::Wanted)).collect();
    while setup.cache.shared.state().flights.get(&object("a")).is_none_or(|flight| flight.waiters() < 20) {
        tokio::task::yield_now().await;
    }
    setup.s3.open_questions(true);
    for waiter in waiters {
        assert!(matches!(waiter.await.unwrap(), Err(FileProblem::Throttled(_))));
    }
    assert_eq!(setup.s3.asked(), 1);
    setup.s3.fail(None);
    assert_eq!(setup.read(&object("a")).await, b"a");
}

#[tokio::test]
async fn who_loses_interest_harms_nobody() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a"), "abc", "\"1\"");
    setup.s3.open_bodies(false);
    let first = setup.begin(&object("a"), Urgency::Wanted);
    setup.s3.until_writing(1).await;
    let second = setup.begin(&object("a"), Urgency::Wanted);
    while setup.cache.shared.state().flights[&object("a")].waiters() < 2 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    setup.s3.open_bodies(true);
    assert_eq!(second.await.unwrap().unwrap().size(), 3);
    assert_eq!(setup.s3.asked(), 1);
}

#[tokio::test]
async fn a_download_ends_with_the_last_who_waits_for_it() {
    let setup = Setup::new(|settings| settings.fetch_timeout = Duration::from_secs(3600));
    setup.s3.put(&object("a"), vec![1; 1000], "\"1\"");
    setup.s3.open_bodies(false);
    let only = setup.begin(&object("a"), Urgency::Wanted);
    setup.s3.until_writing(1).await;
    assert_eq!(setup.on_disk().0, ["part-2"]);
    only.abort();
    assert!(only.await.unwrap_err().is_cancelled());
    let began = std::time::Instant::now();
    while setup.cache.counters().bytes > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "the download goes on");
        tokio::task::yield_now().await;
    }
    assert_eq!(setup.on_disk(), (vec![], 0));
    assert!(setup.cache.shared.state().flights.is_empty());
    setup.s3.open_bodies(true);
    assert_eq!(setup.read(&object("a")).await, vec![1; 1000], "and the next begins anew");
    assert_eq!(setup.s3.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_too_long_ends() {
    let setup = Setup::new(|settings| settings.fetch_timeout = Duration::from_secs(5));
    setup.s3.put(&object("a"), vec![1; 1000], "\"1\"");
    setup.s3.open_bodies(false);
    let problem = setup.fetch(&object("a")).await.unwrap_err();
    assert!(matches!(problem, FileProblem::DeadlinePassed(limit) if limit == Duration::from_secs(5)));
    while setup.cache.counters().bytes > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(setup.on_disk().1, 0);
}

#[tokio::test]
async fn a_failure_of_who_fetched_ahead_is_not_told_to_who_waits() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("a"), "a", "\"1\"");
    setup.s3.fail(Some(FileProblem::Stalled));
    setup.s3.open_questions(false);
    let ahead = setup.begin(&object("a"), Urgency::Ahead);
    setup.s3.until_asked(1).await;
    let wanted = setup.begin(&object("a"), Urgency::Wanted);
    while setup.cache.shared.state().flights[&object("a")].waiters() < 2 {
        tokio::task::yield_now().await;
    }
    let mut asked = setup.s3.asked.subscribe();
    setup.s3.open_questions(true);
    assert!(matches!(ahead.await.unwrap(), Err(FileProblem::Stalled)));
    asked.wait_for(|asked| *asked == 2).await.unwrap();
    assert!(matches!(wanted.await.unwrap(), Err(FileProblem::Stalled)), "its own failure is");
    assert_eq!(setup.s3.asked(), 2);
}

#[tokio::test]
async fn objects_of_no_bytes_are_files_of_no_bytes() {
    let setup = Setup::new(|_| {});
    setup.s3.put(&object("empty.csv"), "", "\"1\"");
    let cached = setup.fetch(&object("empty.csv")).await.unwrap();
    assert_eq!((cached.size(), std::fs::read(cached.path()).unwrap()), (0, vec![]));
}

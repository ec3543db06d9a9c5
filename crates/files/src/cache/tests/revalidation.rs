//! When S3 is asked whether a copy still is the object.

use std::sync::Arc;
use std::time::Duration;

use super::fake::{FakeS3, Setup, Wire, object};
use crate::FileProblem;
use crate::cache::{Cache, Revalidate};
use crate::source::{ObjectAddress, Urgency};

fn setup(revalidate: Revalidate) -> Setup {
    let setup = Setup::new(|settings| settings.revalidate = revalidate);
    setup.s3.put(&object("a"), "one", "\"1\"");
    setup
}

#[tokio::test]
async fn always_asks_once_for_each_use() {
    let setup = setup(Revalidate::Always);
    for _ in 0..4 {
        assert_eq!(setup.read(&object("a")).await, b"one");
    }
    assert_eq!((setup.s3.asked(), setup.s3.conditional()), (4, 3));
    let counters = setup.cache.counters();
    assert_eq!((counters.misses, counters.hits, counters.revalidations), (1, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_good_until_its_time_has_passed() {
    let setup = setup(Revalidate::After(Duration::from_secs(60)));
    for (wait, conditional) in [(0, 0), (59, 0), (1, 1), (59, 1), (1, 2)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert_eq!(setup.read(&object("a")).await, b"one");
        assert_eq!((setup.s3.asked(), setup.s3.conditional()), (1 + conditional, conditional));
    }
}

#[tokio::test(start_paused = true)]
async fn never_and_named_versions_never_ask_again() {
    let never = setup(Revalidate::Never);
    let always = setup(Revalidate::Always);
    let version = ObjectAddress { version_id: Some("v".into()), ..object("a") };
    always.s3.put(&version, "version", "\"v\"");
    for _ in 0..3 {
        assert_eq!(never.read(&object("a")).await, b"one");
        assert_eq!(always.read(&version).await, b"version");
        tokio::time::advance(Duration::from_secs(1 << 20)).await;
    }
    assert_eq!((never.s3.asked(), always.s3.asked()), (1, 1));
}

#[tokio::test]
async fn who_arrives_during_a_question_shares_the_next_one() {
    let setup = setup(Revalidate::Always);
    setup.read(&object("a")).await;
    setup.s3.open_questions(false);
    let first = setup.begin(&object("a"), Urgency::Wanted);
    setup.s3.until_asked(2).await;
    // The answer to the question under way is decided already; who comes now must not be given it.
    setup.s3.put(&object("a"), "two", "\"2\"");
    let late: Vec<_> = (0..50).map(|_| setup.begin(&object("a"), Urgency::Wanted)).collect();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(setup.s3.asked(), 2, "one question at a time");
    setup.s3.open_questions(true);
    assert_eq!(first.await.unwrap().unwrap().etag(), "\"1\"");
    for waiter in late {
        assert_eq!(waiter.await.unwrap().unwrap().etag(), "\"2\"");
    }
    assert_eq!(setup.s3.asked(), 3, "one more question for all of them");
}

#[tokio::test]
async fn who_arrives_during_a_download_shares_it() {
    let setup = setup(Revalidate::Always);
    setup.s3.open_bodies(false);
    let first = setup.begin(&object("a"), Urgency::Wanted);
    setup.s3.until_writing(1).await;
    let second = setup.begin(&object("a"), Urgency::Wanted);
    while setup.cache.shared.state().flights[&object("a")].waiters() < 2 {
        tokio::task::yield_now().await;
    }
    setup.s3.open_bodies(true);
    assert_eq!(first.await.unwrap().unwrap().path(), second.await.unwrap().unwrap().path());
    assert_eq!(setup.s3.asked(), 1);
}

#[tokio::test]
async fn a_replaced_object_is_a_new_file_and_the_old_one_stays_as_long_as_it_is_used() {
    let setup = setup(Revalidate::Always);
    let old = setup.fetch(&object("a")).await.unwrap();
    setup.s3.put(&object("a"), "two!", "\"2\"");
    let new = setup.fetch(&object("a")).await.unwrap();
    assert_eq!(std::fs::read(old.path()).unwrap(), b"one");
    assert_eq!(std::fs::read(new.path()).unwrap(), b"two!");
    assert_eq!(setup.cache.counters().bytes, setup.on_disk().1);
    let path = old.path().to_owned();
    let clone = old.clone();
    drop(old);
    assert!(path.exists());
    drop(clone);
    assert!(!path.exists());
    assert_eq!(setup.on_disk().0.len(), 2, "the new one and what tells about it");
    assert_eq!(setup.cache.counters().bytes, setup.on_disk().1);
}

#[tokio::test]
async fn an_object_that_is_gone_is_gone_from_the_cache() {
    let setup = setup(Revalidate::Always);
    setup.read(&object("a")).await;
    setup.s3.remove(&object("a"));
    assert!(matches!(setup.fetch(&object("a")).await, Err(FileProblem::Missing)));
    assert_eq!(setup.on_disk(), (vec![], 0));
}

#[tokio::test]
async fn a_copy_that_cannot_be_confirmed_is_not_served_and_not_lost() {
    let setup = setup(Revalidate::Always);
    setup.read(&object("a")).await;
    setup.s3.fail(Some(FileProblem::Unavailable("503".into())));
    assert!(matches!(setup.fetch(&object("a")).await, Err(FileProblem::Unavailable(_))));
    setup.s3.fail(None);
    setup.read(&object("a")).await;
    assert_eq!(setup.cache.counters().bytes_fetched, 3);
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_not_read_again() {
    let setup = setup(Revalidate::Always);
    let s3 = Arc::new(FakeS3::that_ignores_conditions());
    s3.put(&object("a"), "one", "\"1\"");
    let cache = Cache::open(setup.settings.clone(), Arc::new(Wire(s3.clone()))).unwrap();
    let setup = Setup { s3, cache, ..setup };
    setup.read(&object("a")).await;
    setup.read(&object("a")).await;
    assert_eq!((setup.s3.asked(), setup.cache.counters().bytes_fetched, setup.cache.counters().hits), (2, 3, 1));
}

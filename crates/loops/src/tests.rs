use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::keep::LONGEST_BACKOFF;

const SECOND: Duration = Duration::from_secs(1);

/// A counter, and a loop that counts its starts and then does as `then` says for each.
fn counted(loops: &Loops, then: impl Fn(u32) + Send + Sync + 'static) -> (Arc<AtomicU32>, Looping) {
    let starts = Arc::new(AtomicU32::new(0));
    let (counter, then) = (Arc::clone(&starts), Arc::new(then));
    let looping = loops.start("counted", move |beat| {
        let (start, then) = (counter.fetch_add(1, Ordering::SeqCst), Arc::clone(&then));
        async move {
            then(start);
            loop {
                beat.rest(SECOND).await;
            }
        }
    });
    (starts, looping)
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_is_started_again_and_counted() {
    let loops = Loops::new(60 * SECOND);
    let (starts, _looping) = counted(&loops, |start| assert!(start > 2, "a planted panic"));
    sleep(5 * SECOND).await;
    assert_eq!(starts.load(Ordering::SeqCst), 4);
    assert_eq!(loops.restarts()["counted"], 3);
    assert_eq!(loops.ailing(), []);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_ends_unasked_is_started_again() {
    let loops = Loops::new(60 * SECOND);
    let _looping = loops.start("short", |beat| async move { beat.within(SECOND) });
    sleep(SECOND / 2).await;
    assert!(loops.restarts()["short"] >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_keeps_failing_is_ailing_until_it_goes_on() {
    let loops = Loops::new(3 * SECOND);
    let (_, _looping) = counted(&loops, |start| assert!(start > 7, "a planted panic"));
    sleep(2 * SECOND).await;
    assert_eq!(loops.ailing(), []);
    sleep(7 * SECOND).await;
    let [Ailing { name: "counted", ailment: Ailment::KeepsFailing(_) }] = loops.ailing()[..] else {
        panic!("{:?}", loops.ailing())
    };
    sleep(4 * LONGEST_BACKOFF).await;
    assert_eq!(loops.ailing(), []);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_still_is_missed_after_its_time_and_patience() {
    let loops = Loops::new(5 * SECOND);
    let looping = loops.start("stuck", |beat| async move {
        beat.within(10 * SECOND);
        std::future::pending().await
    });
    sleep(14 * SECOND).await;
    assert_eq!(loops.ailing(), []);
    sleep(4 * SECOND).await;
    assert_eq!(loops.ailing(), [Ailing { name: "stuck", ailment: Ailment::StandsStill(3 * SECOND) }]);
    assert_eq!(loops.ailing()[0].to_string(), "the loop `stuck` stands still; it is late by 3 s");
    looping.stop().await;
    assert_eq!(loops.ailing(), [], "who has been stopped is not missed");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_says_nothing_at_all_is_missed() {
    let loops = Loops::new(5 * SECOND);
    let _looping = loops.start("mute", |_| std::future::pending());
    sleep(6 * SECOND).await;
    assert_eq!(loops.ailing().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_waits_for_what_may_never_come_is_not_missed() {
    let loops = Loops::new(SECOND);
    let beat = loops.beat("thread");
    beat.within(SECOND);
    beat.idle();
    sleep(100 * SECOND).await;
    assert_eq!(loops.ailing(), []);
    beat.within(SECOND);
    sleep(3 * SECOND).await;
    assert_eq!(loops.ailing().len(), 1);
    drop(beat);
    assert_eq!(loops.ailing(), []);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_told_to_end_ends_once() {
    let loops = Loops::new(SECOND);
    let mut looping = loops.start("obedient", |beat| async move { beat.told_to_end().await });
    looping.tell_to_end();
    looping.ended().await;
    looping.ended().await;
    assert!(looping.has_ended());
    assert_eq!(loops.restarts()["obedient"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_loop_may_come_to_its_end_by_itself() {
    let loops = Loops::new(SECOND);
    let mut looping = loops.start("finite", |beat| async move { beat.finish() });
    looping.ended().await;
    sleep(10 * SECOND).await;
    assert_eq!((loops.restarts()["finite"], loops.ailing()), (0, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_loop_ends() {
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let looping = Loops::default().start("dropped", move |beat| {
        let inside = Arc::clone(&inside);
        async move {
            beat.rest(100 * SECOND).await;
            drop(inside);
        }
    });
    sleep(SECOND).await;
    drop(looping);
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_begin_anew_is_told_of_instead() {
    let loops = Loops::new(SECOND);
    let failed = Arc::new(Mutex::new(0));
    let note = || {
        let failed = Arc::clone(&failed);
        move || *failed.lock().unwrap() += 1
    };
    let mut well = loops.start_once("well", |beat| async move { beat.finish() }, note());
    let mut ill = loops.start_once("ill", |_| async { panic!("a planted panic") }, note());
    let mut early = loops.start_once("early", |_| async {}, note());
    for looping in [&mut well, &mut ill, &mut early] {
        looping.ended().await;
    }
    assert_eq!(*failed.lock().unwrap(), 2);
    assert_eq!(loops.restarts(), [("early", 1), ("ill", 1), ("well", 0)].into());
    assert_eq!(loops.ailing(), []);
}

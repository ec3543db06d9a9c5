//! How streams behave, on a job in memory and with a clock that does not make anybody wait.

use std::time::Duration;

use dunnage_types::{JobState, Progress};
use tokio::time::{Instant, sleep, timeout};

use tokio::sync::watch;

use super::fake::{Fake, events};
use super::reads::PAGE;
use super::*;

const BEGINNING: Position = Position { line: 0, state: JobState::Running };
const SOON: Duration = Duration::from_secs(2);

fn going_on() -> watch::Sender<bool> {
    watch::Sender::new(false)
}

fn half() -> Option<Progress> {
    Some(Progress { fraction: Some(0.5), ..Progress::default() })
}

#[tokio::test(start_paused = true)]
async fn a_stream_follows_a_job_to_its_end() {
    let (job, stopping) = (Fake::running(), going_on());
    job.change(|job| job.state = JobState::Queued);
    let listener = job.listen(&job.events(1), BEGINNING, &stopping);
    let course = async {
        sleep(SOON).await;
        job.change(|job| job.state = JobState::Running);
        sleep(SOON).await;
        job.say(2);
        job.change(|job| job.progress = half());
        sleep(SOON).await;
        job.change(|job| job.cancel_requested = true);
        sleep(SOON).await;
        job.say(1);
        job.end();
    };
    let (told, ()) = tokio::join!(listener.rest(), course);
    let expected = [
        "0:queued state",
        "0:running state",
        "0:running progress",
        "1:running log",
        "2:running log",
        "2:running state",
        "3:running log",
        "3:done state",
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_ended_is_told_with_its_state_last() {
    let (job, stopping) = (Fake::running(), going_on());
    job.say(2 * PAGE);
    job.change(|job| job.progress = half());
    job.end();
    let told = job.listen(&job.events(1), BEGINNING, &stopping).rest().await;
    assert_eq!((told[0].as_str(), told[1].as_str(), told.len()), ("0:running progress", "1:running log", 2 * PAGE + 2));
    assert_eq!(told.last().unwrap(), "500:done state");
    assert_eq!(job.reads(), 3, "nobody has to watch it");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_taken_up_again_goes_on_behind_the_last_event() {
    let (job, stopping) = (Fake::running(), going_on());
    let events = job.events(10);
    job.say(PAGE + 3);
    job.end();
    let whole = job.listen(&events, BEGINNING, &stopping).rest().await;
    for last in [0, 1, 100, PAGE - 1, PAGE, PAGE + 2] {
        let position = whole[last].split(' ').next().unwrap().parse().unwrap();
        assert_eq!(job.listen(&events, position, &stopping).rest().await, whole[last + 1..]);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_listeners_read_about_as_often_as_one() {
    let reads = |listeners: usize| async move {
        let (job, stopping) = (Fake::running(), going_on());
        let events = job.events(listeners);
        let listeners = (0..listeners).map(|_| job.listen(&events, BEGINNING, &stopping).rest());
        let course = async {
            for _ in 0..30 {
                sleep(Duration::from_secs(1)).await;
                job.say(3);
            }
            job.end();
        };
        let (told, ()) = tokio::join!(futures_util::future::join_all(listeners), course);
        assert!(told.iter().all(|told| told.len() == 92), "{told:?}");
        job.reads()
    };
    let (one, fifty) = (reads(1).await, reads(50).await);
    assert!(one > 100, "a look is two reads, twice a second for 30 s: {one}");
    assert!(fifty < one + 50 + 30, "each has read what there was when it came, and no more: {fifty} instead of {one}");
}

#[tokio::test(start_paused = true)]
async fn one_who_comes_between_two_looks_is_told_nothing_older_than_it_has_read() {
    let (job, stopping) = (Fake::running(), going_on());
    job.change(|job| job.state = JobState::Queued);
    let events = job.events(2);
    let mut first = job.listen(&events, BEGINNING, &stopping);
    first.piece().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    job.change(|job| job.state = JobState::Running);
    let second = job.listen(&events, BEGINNING, &stopping);
    let course = async {
        sleep(SOON).await;
        job.end();
    };
    assert_eq!(tokio::join!(second.rest(), course).0, ["0:running state", "0:done state"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_misses_nothing_and_holds_up_nobody() {
    let (job, stopping) = (Fake::running(), going_on());
    let events = job.events(2);
    let slow = job.listen(&events, BEGINNING, &stopping);
    let quick = job.listen(&events, BEGINNING, &stopping);
    let course = async {
        for _ in 0..20 {
            sleep(Duration::from_secs(1)).await;
            job.say(PAGE);
        }
        job.end();
    };
    let (told, ()) = tokio::join!(quick.rest(), course);
    assert_eq!(told.len(), 20 * PAGE + 2);
    assert_eq!(slow.rest().await, told);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_is_a_pause_and_one_that_stays_away_an_end() {
    let (job, stopping) = (Fake::running(), going_on());
    let events = job.events(2);
    let listener = job.listen(&events, BEGINNING, &stopping);
    let course = async {
        sleep(SOON).await;
        job.set_away(true);
        sleep(Duration::from_secs(15)).await;
        job.set_away(false);
        job.say(1);
        sleep(SOON + SOON).await;
        job.set_away(true);
    };
    let begin = Instant::now();
    let (told, ()) = tokio::join!(listener.rest(), course);
    assert_eq!(told, ["0:running state", "1:running log"]);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    job.set_away(false);
    job.end();
    let again = job.listen(&events, Position::behind(1), &stopping);
    assert_eq!(again.rest().await, ["1:done state"]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_removed_job_ends() {
    let (job, stopping) = (Fake::running(), going_on());
    let listener = job.listen(&job.events(1), BEGINNING, &stopping);
    let course = async {
        sleep(SOON).await;
        job.remove();
    };
    assert_eq!(tokio::join!(listener.rest(), course).0, ["0:running state"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_watched_only_while_somebody_listens() {
    let (job, stopping) = (Fake::running(), going_on());
    let events = job.events(2);
    let (first, mut second) = (job.listen(&events, BEGINNING, &stopping), job.listen(&events, BEGINNING, &stopping));
    second.piece().await.unwrap();
    drop(first);
    assert_eq!(events.open_streams(), 1, "its place is free at once");
    let before = job.reads();
    sleep(SOON).await;
    assert!(job.reads() > before);
    drop(second);
    assert_eq!(events.open_streams(), 0);
    sleep(SOON).await;
    let before = job.reads();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(job.reads(), before);
    job.end();
    assert_eq!(job.listen(&events, BEGINNING, &stopping).rest().await, ["0:done state"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_hint_a_change_is_told_at_once() {
    let (job, stopping) = (Fake::running(), going_on());
    let events = job.events(1);
    let mut listener = job.listen(&events, BEGINNING, &stopping);
    listener.piece().await.unwrap();
    sleep(SOON).await;
    for _ in 0..20 {
        job.say(1);
        events.hint(job.job().id);
        let told = timeout(Duration::from_millis(100), listener.piece()).await;
        assert!(told.unwrap().unwrap().contains("event: log"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_has_a_heartbeat() {
    let (job, stopping) = (Fake::running(), going_on());
    let mut listener = job.listen(&job.events(1), BEGINNING, &stopping);
    let first = listener.piece().await.unwrap();
    assert!(first.starts_with(frame::RETRY), "{first}");
    for _ in 0..3 {
        let begin = Instant::now();
        assert_eq!(listener.piece().await.unwrap(), frame::HEARTBEAT);
        assert_eq!(begin.elapsed().as_secs(), 15);
    }
}

#[tokio::test(start_paused = true)]
async fn every_stream_ends_when_the_server_stops() {
    let (job, stopping) = (Fake::running(), going_on());
    let events_of = job.events(1);
    let listener = job.listen(&events_of, BEGINNING, &stopping);
    let course = async {
        sleep(SOON).await;
        stopping.send_replace(true);
    };
    let begin = Instant::now();
    assert_eq!(tokio::join!(listener.rest(), course).0, ["0:running state"]);
    assert_eq!(begin.elapsed(), SOON);
    let mut late = job.listen(&events_of, BEGINNING, &stopping);
    assert_eq!(late.piece().await.map(|text| events(&text)), None, "one that comes now ends at once");
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_streams_than_places() {
    let events = Fake::running().events(2);
    let places = [events.place(), events.place()];
    assert!(places.iter().all(Option::is_some) && events.place().is_none());
    assert_eq!(events.open_streams(), 2);
    drop(places);
    assert!(events.place().is_some());
}

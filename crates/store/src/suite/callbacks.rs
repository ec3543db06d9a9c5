//! Telling clients of the ends of their jobs.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{Callback, CallbackState, JobId, JobState};

use super::Bench;
use super::given::{LEASE, claim_one, done, enqueue, error, job, new_job, retry_after};
use crate::{Delivery, Finish, NewJob, Store};

const URL: &str = "https://example.com/hook";
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any backoff.
const AN_HOUR: Duration = Duration::from_hours(1);

pub async fn a_callback_is_due_once_its_job_has_ended(bench: &mut dyn Bench) {
    let store = bench.store();
    for (finish, state) in [
        (done(), JobState::Done),
        (Finish::Failed(error("script_error")), JobState::Error),
        (Finish::Cancelled, JobState::Cancelled),
        (retry_after(AN_HOUR), JobState::Error),
    ] {
        let id = enqueue(&*store, NewJob { max_attempts: 1, ..job_with_callback() }).await;
        let waiting = Callback { url: URL.to_owned(), state: CallbackState::Pending, attempts: 0, error: None };
        assert_eq!(job(&*store, id).await.callback, Some(waiting));
        let lease = claim_one(&*store).await.lease;
        assert_eq!(due(&*store).await, []);
        store.finish(lease, finish).await.unwrap();
        let due = store.claim_callbacks(10, PATIENCE).await.unwrap();
        assert_eq!(due.iter().map(|due| (due.job.id, due.job.state, due.url.as_str())).collect::<Vec<_>>(), [(id, state, URL)]);
    }
}

pub async fn a_job_that_ends_without_its_holder_is_told_of_too(bench: &mut dyn Bench) {
    let store = bench.store();
    let cancelled = enqueue(&*store, job_with_callback()).await;
    store.cancel(cancelled).await.unwrap();
    assert_eq!(due(&*store).await, [(cancelled, 1)]);
    let lost = enqueue(&*store, NewJob { max_attempts: 1, ..job_with_callback() }).await;
    claim_one(&*store).await;
    bench.advance(LEASE).await;
    store.rescue().await.unwrap();
    let of_lost: Vec<_> = due(&*store).await.into_iter().filter(|(id, _)| *id == lost).collect();
    assert_eq!(of_lost, [(lost, 1)]);
}

pub async fn a_job_without_a_callback_has_none_due(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, new_job()).await;
    store.cancel(id).await.unwrap();
    assert_eq!((due(&*store).await, job(&*store, id).await.callback), (Vec::new(), None));
}

pub async fn a_callback_in_delivery_is_hidden_until_its_patience_ends(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = ended_with_callback(&*store).await;
    assert_eq!(due(&*store).await, [(id, 1)]);
    bench.advance(PATIENCE / 2).await;
    assert_eq!(due(&*store).await, []);
    bench.advance(PATIENCE / 2).await;
    assert_eq!(due(&*store).await, [(id, 2)], "its deliverer was lost");
}

pub async fn a_failed_delivery_is_tried_again_after_its_wait(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = ended_with_callback(&*store).await;
    assert_eq!(due(&*store).await, [(id, 1)]);
    let failed = Delivery::Retry { error: "it answered 503".to_owned(), after: AN_HOUR };
    store.settle_callback(id, 1, failed).await.unwrap();
    let callback = job(&*store, id).await.callback.unwrap();
    assert_eq!(
        (callback.state, callback.attempts, callback.error.as_deref()),
        (CallbackState::Pending, 1, Some("it answered 503"))
    );
    bench.advance(AN_HOUR / 2).await;
    assert_eq!(due(&*store).await, []);
    bench.advance(AN_HOUR / 2).await;
    assert_eq!(due(&*store).await, [(id, 2)]);
}

pub async fn a_settled_callback_is_never_due_again(bench: &mut dyn Bench) {
    let store = bench.store();
    let given_up = || Delivery::GivenUp { error: "it answered 410".to_owned() };
    for (outcome, state) in [(Delivery::Delivered, CallbackState::Delivered), (given_up(), CallbackState::Failed)] {
        let id = ended_with_callback(&*store).await;
        assert_eq!(due(&*store).await, [(id, 1)]);
        store.settle_callback(id, 1, outcome).await.unwrap();
        store.settle_callback(id, 1, Delivery::Retry { error: "late".to_owned(), after: Duration::ZERO }).await.unwrap();
        bench.advance(AN_HOUR).await;
        assert_eq!(due(&*store).await, []);
        let callback = job(&*store, id).await.callback.unwrap();
        let expected_error = (state == CallbackState::Failed).then_some("it answered 410");
        assert_eq!((callback.state, callback.error.as_deref()), (state, expected_error));
    }
}

pub async fn a_late_deliverer_settles_nothing(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = ended_with_callback(&*store).await;
    assert_eq!(due(&*store).await, [(id, 1)]);
    bench.advance(PATIENCE).await;
    assert_eq!(due(&*store).await, [(id, 2)]);
    store.settle_callback(id, 1, Delivery::GivenUp { error: "late".to_owned() }).await.unwrap();
    assert_eq!(job(&*store, id).await.callback.unwrap().state, CallbackState::Pending);
    store.settle_callback(id, 2, Delivery::Delivered).await.unwrap();
    store.settle_callback(JobId::random(), 1, Delivery::Delivered).await.unwrap();
    assert_eq!(job(&*store, id).await.callback.unwrap().state, CallbackState::Delivered);
}

pub async fn a_job_is_kept_until_its_callback_is_settled(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = ended_with_callback(&*store).await;
    bench.advance(AN_HOUR).await;
    assert_eq!(store.prune(Duration::ZERO, 10).await.unwrap().len(), 0);
    assert_eq!(due(&*store).await, [(id, 1)]);
    store.settle_callback(id, 1, Delivery::Delivered).await.unwrap();
    assert_eq!(store.prune(Duration::ZERO, 10).await.unwrap().len(), 1);
}

async fn due(store: &dyn Store) -> Vec<(JobId, u32)> {
    store.claim_callbacks(10, PATIENCE).await.unwrap().iter().map(|due| (due.job.id, due.attempt)).collect()
}

async fn ended_with_callback(store: &dyn Store) -> JobId {
    let id = enqueue(store, job_with_callback()).await;
    store.finish(claim_one(store).await.lease, done()).await.unwrap();
    id
}

fn job_with_callback() -> NewJob {
    NewJob { callback: Some(URL.to_owned()), ..new_job() }
}

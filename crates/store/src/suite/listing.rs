//! Lists and counts.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use dunnage_types::{JobId, JobKind, JobState};

use super::Bench;
use super::given::{claim_all, done, ended, enqueue, error, first_jobs, job, job_with_key, new_job, running};
use crate::{Backlog, Finish, JobFilter, NewJob, Store, StoreError};

pub async fn jobs_are_listed_newest_first_page_by_page(bench: &mut dyn Bench) {
    let store = bench.store();
    assert_eq!(pages(&*store, first_jobs(4)).await, Vec::<Vec<JobId>>::new());
    let mut committed = Vec::new();
    for _ in 0..8 {
        committed.push(enqueue(&*store, new_job()).await);
    }
    committed.reverse();
    let all = |limit: usize| committed.chunks(limit).map(<[JobId]>::to_vec).collect::<Vec<_>>();
    for limit in [1, 3, 4, 7, 8, 9] {
        assert_eq!(pages(&*store, first_jobs(limit)).await, all(limit as usize), "pages of {limit}");
    }
    assert_eq!(store.jobs(&first_jobs(u32::MAX)).await.unwrap().jobs.len(), 8);
    assert_eq!(store.jobs(&first_jobs(0)).await.unwrap().jobs, []);
}

pub async fn lists_are_narrowed_by_state_and_kind(bench: &mut dyn Bench) {
    let store = bench.store();
    let finished = ended(&*store, done()).await;
    let failed = ended(&*store, Finish::Failed(error("bad"))).await;
    let running = running(&*store).await.job;
    let train = enqueue(&*store, new_job()).await;
    let input = enqueue(&*store, NewJob { kind: JobKind::Input, ..new_job() }).await;
    let cancelled = enqueue(&*store, NewJob { kind: JobKind::Input, ..new_job() }).await;
    store.cancel(cancelled).await.unwrap();

    let by_state = [
        (JobState::Queued, vec![input, train]),
        (JobState::Running, vec![running]),
        (JobState::Done, vec![finished]),
        (JobState::Error, vec![failed]),
        (JobState::Cancelled, vec![cancelled]),
    ];
    for (state, expected) in by_state {
        let filter = JobFilter { state: Some(state), ..first_jobs(10) };
        assert_eq!(pages(&*store, filter).await, [expected], "{state}");
    }
    let inputs = JobFilter { kind: Some(JobKind::Input), ..first_jobs(1) };
    assert_eq!(pages(&*store, inputs.clone()).await, [[cancelled], [input]]);
    assert_eq!(pages(&*store, JobFilter { state: Some(JobState::Queued), ..inputs }).await, [[input]]);
}

pub async fn the_jobs_of_a_key_are_listed_in_their_order(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut of_key = Vec::new();
    for key in ["b", "a", "b", "c", "b"] {
        let id = enqueue(&*store, job_with_key(key)).await;
        of_key.extend((key == "b").then_some(id));
    }
    enqueue(&*store, new_job()).await;
    of_key.reverse();
    let filter = JobFilter { key: Some("b".to_owned()), ..first_jobs(2) };
    assert_eq!(pages(&*store, filter.clone()).await, [&of_key[..2], &of_key[2..]]);
    store.cancel(of_key[0]).await.unwrap();
    assert_eq!(pages(&*store, JobFilter { state: Some(JobState::Cancelled), ..filter }).await, [&of_key[..1]]);
}

pub async fn the_backlog_counts_what_waits_and_runs(bench: &mut dyn Bench) {
    let store = bench.store();
    assert_eq!(store.backlog().await.unwrap(), Backlog::default());
    ended(&*store, done()).await;
    running(&*store).await;
    let oldest = enqueue(&*store, new_job()).await;
    enqueue(&*store, new_job()).await;
    let expected = Backlog { queued: 2, running: 1, oldest_queued: Some(job(&*store, oldest).await.created_at) };
    assert_eq!(store.backlog().await.unwrap(), expected);
    claim_all(&*store).await;
    assert_eq!(store.backlog().await.unwrap(), Backlog { queued: 0, running: 3, oldest_queued: None });
}

pub async fn unknown_jobs_are_told_apart(bench: &mut dyn Bench) {
    let store = bench.store();
    enqueue(&*store, new_job()).await;
    let unknown = JobId::random();
    assert_eq!(store.job(unknown).await.unwrap(), None);
    let log = store.log(unknown, 0, 10).await;
    assert!(matches!(log, Err(StoreError::UnknownJob(id)) if id == unknown), "{log:?}");
    let cancelled = store.cancel(unknown).await;
    assert!(matches!(cancelled, Err(StoreError::UnknownJob(id)) if id == unknown), "{cancelled:?}");
}

/// Every page of a list. The last one that is not empty ends it.
async fn pages(store: &dyn Store, mut filter: JobFilter) -> Vec<Vec<JobId>> {
    let mut pages = Vec::new();
    loop {
        let page = store.jobs(&filter).await.unwrap();
        pages.extend((!page.jobs.is_empty()).then(|| page.jobs.iter().map(|job| job.id).collect()));
        match page.next {
            Some(next) => filter.before = Some(next),
            None => return pages,
        }
    }
}

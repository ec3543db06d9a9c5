//! What random sequences of calls must never bring about.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dunnage_types::{Job, JobId, JobKind, JobState, ReplicaId, StateValue, Timestamp};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::Bench;
use super::given::{done, error, first_jobs, half_way, new_job, retry_after};
use crate::{Finish, Lease, NewJob, Store, StoreError, Terms};

const STEPS: usize = 400;
const LEASE: Duration = Duration::from_secs(10);
const TERMS: Terms = Terms { lease: LEASE, limit: Duration::from_hours(1) };

pub async fn random_interleavings_keep_the_promises(bench: &mut dyn Bench) {
    for seed in 0..3 {
        let mut history =
            History { random: StdRng::seed_from_u64(seed), store: bench.store(), leases: Vec::new(), seen: HashMap::new() };
        for _ in 0..STEPS {
            history.step(bench).await;
            history.check().await;
        }
        history.finish_everything(bench).await;
    }
}

/// What was done, and what was seen of it.
struct History {
    random: StdRng,
    store: Arc<dyn Store>,
    /// Every lease that was ever given, oldest first.
    leases: Vec<Lease>,
    seen: HashMap<JobId, Job>,
}

impl History {
    async fn step(&mut self, bench: &dyn Bench) {
        match self.random.random_range(0..20) {
            0..=4 => self.enqueue().await,
            5..=9 => self.claim().await,
            10..=14 => self.use_lease().await,
            15 => _ = self.cancel().await,
            16 => _ = self.store.rescue().await.unwrap(),
            17 => bench.advance(LEASE / 3).await,
            18 => bench.advance(LEASE).await,
            _ => self.release().await,
        }
    }

    async fn enqueue(&mut self) {
        let key = ["a", "b"].choose(&mut self.random).filter(|_| self.random.random_bool(0.7)).map(|key| (*key).to_owned());
        let max_attempts = self.random.random_range(1..=3);
        let kind = if self.random.random_bool(0.5) { JobKind::Input } else { JobKind::Train };
        let job = NewJob { kind, key, max_attempts, ..new_job() };
        if self.random.random_bool(0.5) {
            self.store.enqueue(job).await.unwrap();
        } else {
            let committed = self.store.enqueue_claimed(job, ReplicaId::random(), TERMS).await.unwrap();
            self.leases.extend(committed.claimed.map(|claimed| claimed.lease));
        }
    }

    async fn claim(&mut self) {
        let limit = self.random.random_range(1..=3);
        for claimed in self.store.claim(ReplicaId::random(), limit, TERMS).await.unwrap() {
            assert!(claimed.job.attempt <= claimed.job.max_attempts, "{:?}", claimed.job);
            assert!(!claimed.job.cancel_requested, "{:?}", claimed.job);
            assert!(self.newest(claimed.lease.job).is_none_or(|last| claimed.lease.number > last.number));
            self.leases.push(claimed.lease);
        }
    }

    async fn use_lease(&mut self) {
        let Some(lease) = self.leases.choose(&mut self.random).copied() else { return };
        let outcome = match self.random.random_range(0..7) {
            0 => self.store.renew(lease, LEASE).await.map(drop),
            1 => self.store.progress(lease, &half_way()).await,
            2 => self.store.set(Some(lease), "key", StateValue::Json(1.into())).await,
            3 => self.store.finish(lease, done()).await,
            4 => self.store.finish(lease, Finish::Failed(error("bad"))).await,
            5 => self.store.finish(lease, retry_after(LEASE / 2)).await,
            _ => self.store.finish(lease, Finish::Cancelled).await,
        };
        self.assert_fenced(lease, &outcome);
    }

    async fn release(&mut self) {
        let Some(lease) = self.leases.choose(&mut self.random).copied() else { return };
        let outcome = self.store.release(lease, Duration::ZERO).await;
        self.assert_fenced(lease, &outcome);
    }

    async fn cancel(&mut self) {
        let jobs: Vec<_> = self.seen.keys().copied().collect();
        if let Some(job) = jobs.choose(&mut self.random) {
            self.store.cancel(*job).await.unwrap();
        }
    }

    /// Only the newest lease of a job that was last seen running may have counted.
    fn assert_fenced(&self, lease: Lease, outcome: &Result<(), StoreError>) {
        let is_running = self.seen.get(&lease.job).is_some_and(|job| job.state == JobState::Running);
        let holds = is_running && self.newest(lease.job) == Some(lease);
        match outcome {
            Ok(()) => assert!(holds, "{lease:?} was superseded but counted"),
            Err(StoreError::Superseded(job)) => assert!(!holds && *job == lease.job, "{lease:?} holds its job but was refused"),
            Err(other) => panic!("{lease:?}: {other}"),
        }
    }

    fn newest(&self, job: JobId) -> Option<Lease> {
        self.leases.iter().rev().find(|lease| lease.job == job).copied()
    }

    /// Looks at every job, and compares it with what was seen before.
    async fn check(&mut self) {
        let jobs = self.store.jobs(&first_jobs(u32::MAX)).await.unwrap().jobs;
        let mut unfinished_keys = HashSet::new();
        let oldest_first = jobs.into_iter().rev();
        for job in oldest_first {
            assert_eq!(job.state.is_terminal(), job.finished_at.is_some(), "{job:?}");
            assert!(job.attempt <= job.max_attempts, "{job:?}");
            if let Some(before) = self.seen.get(&job.id).filter(|before| before.state.is_terminal()) {
                assert_eq!(timeless(before), timeless(&job), "what has ended never changes");
            }
            if let Some(key) = job.key.clone().filter(|_| !job.state.is_terminal()) {
                let is_first = unfinished_keys.insert(key);
                assert!(is_first || job.state == JobState::Queued, "{job:?} runs before an earlier one of its key has ended");
            }
            self.seen.insert(job.id, job);
        }
    }

    /// However it went, every job ends when its workers do their work.
    async fn finish_everything(&mut self, bench: &dyn Bench) {
        while self.seen.values().any(|job| !job.state.is_terminal()) {
            bench.advance(Duration::from_hours(1)).await;
            self.store.rescue().await.unwrap();
            bench.advance(Duration::from_hours(1)).await;
            for claimed in self.store.claim(ReplicaId::random(), 10, TERMS).await.unwrap() {
                self.store.finish(claimed.lease, done()).await.unwrap();
            }
            self.check().await;
        }
    }
}

/// A job without its times, which the bench moves.
fn timeless(job: &Job) -> Job {
    Job { created_at: Timestamp(0), started_at: None, finished_at: None, ..job.clone() }
}

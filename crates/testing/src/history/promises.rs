//! The promises, each a function that lists its violations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{History, Outcome};
use crate::audit::{Change, Row};

/// What must hold whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// J1: a job whose id was answered exists.
    J1,
    /// J2: when the faults have stopped, every job ends.
    J2,
    /// J3: a job ends once, and stays as it ended.
    J3,
    /// J4: an attempt is charged when it starts, and no more start than are allowed.
    J4,
    /// J5: what the attempts of a job have left behind comes from the one that ended it.
    J5,
    /// J6: one lease at a time, and none is taken over before it has expired by the database's clock.
    J6,
    /// J7: one `Idempotency-Key`, one job.
    J7,
    /// J8: an answer belongs to the request.
    J8,
    /// J9: no process is left.
    J9,
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// What about.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.promise, self.text)
    }
}

/// Everything that was promised and does not hold.
#[must_use]
pub fn violations(history: &History) -> Vec<Violation> {
    type Check = fn(&History) -> Vec<String>;
    let checks: [(Promise, Check); 9] = [
        (Promise::J1, lost),
        (Promise::J2, unfinished),
        (Promise::J3, ended_otherwise_than_once),
        (Promise::J4, started_too_often),
        (Promise::J5, mixed),
        (Promise::J6, held_by_two),
        (Promise::J7, duplicated),
        (Promise::J8, mistaken),
        (Promise::J9, left),
    ];
    let broken = checks.iter().flat_map(|(promise, check)| check(history).into_iter().map(|text| (*promise, text)));
    broken.map(|(promise, text)| Violation { promise, text }).collect()
}

/// Jobs whose id was answered and which are not there.
fn lost(history: &History) -> Vec<String> {
    let there: BTreeSet<_> = history.jobs.iter().map(|row| row.job.as_str()).collect();
    let accepted: BTreeSet<_> = history.submissions.iter().filter_map(|call| accepted(&call.outcome)).collect();
    accepted.difference(&there).map(|job| format!("job {job} was accepted and is not there")).collect()
}

fn accepted(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Accepted(job) => Some(job),
        Outcome::Refused(_) | Outcome::Failed(_) | Outcome::Unknown => None,
    }
}

fn unfinished(history: &History) -> Vec<String> {
    let open = history.jobs.iter().filter(|row| !is_terminal(row));
    open.map(|row| format!("job {} is still {}, attempt {}", row.job, row.state, row.attempt)).collect()
}

fn is_terminal(row: &Row) -> bool {
    !matches!(row.state.as_str(), "queued" | "running")
}

/// Jobs that ended and then were changed in any way that is noted, other than by being removed.
fn ended_otherwise_than_once(history: &History) -> Vec<String> {
    let updates = history.changes.iter().filter_map(update);
    let after_the_end = updates.filter(|(before, _)| is_terminal(before));
    after_the_end.map(|(before, after)| format!("job {} had ended in {before:?} and became {after:?}", before.job)).collect()
}

fn update(change: &Change) -> Option<(&Row, &Row)> {
    Some((change.before.as_ref()?, change.after.as_ref()?))
}

/// Attempts that were not charged, or are more than allowed. One that is handed back does not count.
fn started_too_often(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    let mut starts: BTreeMap<&str, i64> = BTreeMap::new();
    for change in &history.changes {
        let (before, Some(after)) = (change.before.as_ref(), &change.after) else { continue };
        let count = starts.entry(&after.job).or_default();
        if is_claim(before, after) {
            *count += 1;
            if *count != after.attempt || *count > after.max_attempts {
                found.push(format!(
                    "job {} has been started {count} times, is charged {} attempts and may have {}",
                    after.job, after.attempt, after.max_attempts
                ));
            }
        } else if before.is_some_and(|before| after.attempt + 1 == before.attempt) {
            *count = (*count - 1).max(0);
        }
    }
    found
}

/// A job may be claimed with the commit that makes it.
fn is_claim(before: Option<&Row>, after: &Row) -> bool {
    after.state == "running" && before.is_none_or(|before| before.state != "running" || before.lease != after.lease)
}

/// Jobs that are done, but whose effects come from another attempt than their result.
fn mixed(history: &History) -> Vec<String> {
    let effects: BTreeMap<_, _> = history.effects.iter().map(|effect| (effect.key.as_str(), effect.value.as_str())).collect();
    let mut found = Vec::new();
    for row in history.jobs.iter().filter(|row| row.state == "done") {
        let result = row.result.as_deref().and_then(|text| serde_json::from_str::<String>(text).ok());
        let written = ["begin", "end"].map(|edge| effects.get(format!("{edge}/{}", row.job).as_str()).copied());
        if result.is_none() || written != [result.as_deref(); 2] {
            found.push(format!("job {} has the result of attempt {result:?} and the state of attempts {written:?}", row.job));
        }
    }
    found
}

/// Leases that began while another one lasted, or were taken over before their time.
fn held_by_two(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for change in &history.changes {
        let Some((before, after)) = update(change) else { continue };
        if is_claim(Some(before), after) && (before.state != "queued" || after.lease <= before.lease) {
            found.push(format!(
                "job {} was claimed while {}, lease {} after {}",
                after.job, before.state, after.lease, before.lease
            ));
        }
        let is_takeover = before.state == "running" && after.state != "running" && after.settled_lease != Some(after.lease);
        if is_takeover && before.held_until_us.is_none_or(|until| change.at_us < until) {
            let early = before.held_until_us.unwrap_or(i64::MAX).saturating_sub(change.at_us);
            found.push(format!("job {} was taken over {early} µs before lease {} expired", after.job, before.lease));
        }
    }
    found
}

/// Keys that stand for several jobs, to their clients or in the database. With a job its key is forgotten: if one is removed that
/// should be there, that is another matter.
fn duplicated(history: &History) -> Vec<String> {
    let removed = history.changes.iter().filter(|change| change.after.is_none()).filter_map(|change| change.before.as_ref());
    let removed: BTreeSet<_> = removed.map(|row| row.job.as_str()).collect();
    let answered = history.submissions.iter().filter_map(|call| Some((call.key.as_str(), accepted(&call.outcome)?)));
    let made = history.changes.iter().filter_map(|change| change.after.as_ref()).chain(&history.jobs);
    let made = made.filter_map(|row| Some((row.idempotency_key.as_deref()?, row.job.as_str())));
    let mut jobs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, job) in answered.chain(made).filter(|(_, job)| !removed.contains(job)) {
        jobs.entry(key).or_default().insert(job);
    }
    let several = jobs.iter().filter(|(_, jobs)| jobs.len() > 1);
    several.map(|(key, jobs)| format!("`{key}` stands for the jobs {jobs:?}")).collect()
}

fn mistaken(history: &History) -> Vec<String> {
    let wrong = history.outputs.iter().filter(|output| output.nonce.to_bits() != output.answer.to_bits());
    wrong.map(|output| format!("request {} was answered {}", output.nonce, output.answer)).collect()
}

fn left(history: &History) -> Vec<String> {
    history.left.iter().map(|process| format!("process {process} is left")).collect()
}

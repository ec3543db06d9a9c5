//! For each promise, a history that breaks it and no other.

use super::{History, Outcome, Output, Promise, Refusal, Submission, violations};
use crate::audit::{Change, Effect, Row};

const LEASE_US: i64 = 2_000_000;

fn queued() -> Row {
    Row {
        job: "7".to_owned(),
        idempotency_key: Some("once".to_owned()),
        state: "queued".to_owned(),
        attempt: 0,
        max_attempts: 2,
        lease: 0,
        settled_lease: None,
        held_until_us: None,
        result: None,
        error: None,
    }
}

fn claimed(row: &Row, at_us: i64) -> Row {
    let held_until_us = Some(at_us + LEASE_US);
    Row { state: "running".to_owned(), attempt: row.attempt + 1, lease: row.lease + 1, held_until_us, ..row.clone() }
}

fn rescued(row: &Row) -> Row {
    Row { state: "queued".to_owned(), held_until_us: None, error: Some("{}".to_owned()), ..row.clone() }
}

fn done(row: &Row) -> Row {
    let result = Some("\"tag\"".to_owned());
    Row { state: "done".to_owned(), held_until_us: None, settled_lease: Some(row.lease), result, ..row.clone() }
}

/// A job that was lost once, taken back when its lease had expired, and done the second time.
fn good() -> History {
    let (first, later) = (claimed(&queued(), 0), 2 * LEASE_US);
    let waiting = rescued(&first);
    let second = claimed(&waiting, later);
    let end = done(&second);
    let rows = [queued(), first, waiting, second, end.clone()];
    let times = [0, 0, LEASE_US, later, later + 1];
    let befores = [None].into_iter().chain(rows.iter().cloned().map(Some));
    let changes = befores.zip(&rows).zip(times);
    let effects = ["begin/7", "end/7"].map(|key| Effect { key: key.to_owned(), value: "tag".to_owned() });
    let failure = Refusal { status: 503, code: Some("store_unavailable".to_owned()) };
    let too_slow = Refusal { status: 408, code: None };
    let submission = |outcome| Submission { key: "once".to_owned(), outcome };
    History {
        submissions: [Outcome::Unknown, Outcome::Failed(failure), Outcome::Refused(too_slow), Outcome::Accepted("7".to_owned())]
            .map(submission)
            .to_vec(),
        outputs: vec![Output { nonce: 3.0, answer: 3.0 }],
        changes: changes.map(|((before, after), at_us)| Change { at_us, before, after: Some(after.clone()) }).collect(),
        jobs: vec![end],
        effects: effects.to_vec(),
        left: Vec::new(),
    }
}

fn update_of(before: Row, after: Row, at_us: i64) -> Change {
    Change { at_us, before: Some(before), after: Some(after) }
}

#[track_caller]
fn finds(promise: Promise, plant: impl FnOnce(&mut History)) {
    let mut history = good();
    assert_eq!(violations(&history), []);
    plant(&mut history);
    let found = violations(&history);
    assert!(!found.is_empty() && found.iter().all(|violation| violation.promise == promise), "{found:?}");
}

#[test]
fn an_accepted_job_that_is_gone_is_noticed() {
    finds(Promise::J1, |history| history.jobs.clear());
}

#[test]
fn a_job_that_does_not_end_is_noticed() {
    finds(Promise::J2, |history| history.jobs[0].state = "running".to_owned());
}

#[test]
fn a_job_that_ends_twice_or_changes_after_its_end_is_noticed() {
    let end = || good().jobs[0].clone();
    finds(Promise::J3, |history| {
        let again = Row { result: Some("\"other\"".to_owned()), ..end() };
        history.changes.push(update_of(end(), again, 9 * LEASE_US));
    });
    finds(Promise::J3, |history| {
        let failed = Row { state: "error".to_owned(), ..end() };
        history.changes.push(update_of(end(), failed, 9 * LEASE_US));
    });
}

#[test]
fn an_attempt_that_is_not_charged_is_noticed() {
    finds(Promise::J4, |history| {
        for row in history.changes[3..].iter_mut().flat_map(|change| [&mut change.before, &mut change.after]).flatten() {
            row.attempt = 1;
        }
    });
}

#[test]
fn a_job_may_be_claimed_with_the_commit_that_makes_it_if_that_is_charged() {
    let mut history = good();
    history.changes.remove(0);
    history.changes[0].before = None;
    assert_eq!(violations(&history), []);
    history.changes[0].after.as_mut().unwrap().attempt = 0;
    assert!(violations(&history).iter().any(|violation| violation.promise == Promise::J4));
}

#[test]
fn an_attempt_too_many_is_noticed_unless_one_was_handed_back() {
    let too_many = |history: &mut History, waiting: &Row| {
        let third = claimed(waiting, 9 * LEASE_US);
        history.changes.pop();
        let second = history.changes[3].after.clone().unwrap();
        history.changes.push(update_of(second, waiting.clone(), 8 * LEASE_US));
        history.changes.push(update_of(waiting.clone(), third.clone(), 9 * LEASE_US));
        history.changes.push(update_of(third.clone(), done(&third), 9 * LEASE_US));
    };
    let second = good().changes[3].after.clone().unwrap();
    finds(Promise::J4, |history| too_many(history, &rescued(&second)));
    let mut history = good();
    let handed_back = Row { attempt: 1, settled_lease: Some(2), ..rescued(&second) };
    too_many(&mut history, &handed_back);
    assert_eq!(violations(&history), []);
}

#[test]
fn effects_of_another_attempt_are_noticed() {
    finds(Promise::J5, |history| history.effects[0].value = "stale".to_owned());
    finds(Promise::J5, |history| drop(history.effects.pop()));
    finds(Promise::J5, |history| history.jobs[0].result = Some("\"stale\"".to_owned()));
}

#[test]
fn a_lease_that_is_taken_over_early_is_noticed() {
    finds(Promise::J6, |history| history.changes[2].at_us -= 1);
}

#[test]
fn a_lease_that_begins_while_another_lasts_is_noticed() {
    finds(Promise::J6, |history| {
        let first = history.changes[1].after.clone();
        history.changes.remove(2);
        history.changes[2].before = first;
    });
    finds(Promise::J6, |history| {
        for row in history.changes[3..].iter_mut().flat_map(|change| [&mut change.before, &mut change.after]).flatten() {
            row.lease = 1;
            row.settled_lease = row.settled_lease.map(|_| 1);
        }
    });
}

#[test]
fn a_key_that_stands_for_two_jobs_is_noticed() {
    let other = || Row { job: "8".to_owned(), ..queued() };
    finds(Promise::J7, |history| history.changes.push(Change { at_us: 0, before: None, after: Some(other()) }));
    let accepted = Submission { key: "other".to_owned(), outcome: Outcome::Accepted("7".to_owned()) };
    finds(Promise::J7, |history| {
        history.changes.push(Change {
            at_us: 0,
            before: None,
            after: Some(Row { idempotency_key: Some("other".to_owned()), ..other() }),
        });
        history.submissions.push(accepted);
    });
}

#[test]
fn the_key_of_a_job_that_was_removed_may_be_used_again() {
    let mut history = good();
    let old = Row { job: "6".to_owned(), ..queued() };
    history.changes.insert(0, Change { at_us: 0, before: None, after: Some(old.clone()) });
    history.changes.insert(1, Change { at_us: 0, before: Some(old), after: None });
    assert_eq!(violations(&history), []);
}

#[test]
fn an_answer_that_belongs_to_another_request_is_noticed() {
    finds(Promise::J8, |history| history.outputs[0].answer = 4.0);
}

#[test]
fn a_process_that_is_left_is_noticed() {
    finds(Promise::J9, |history| history.left.push("4711: dunnage-lua".to_owned()));
}

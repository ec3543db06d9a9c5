//! The product, broken on purpose: for each promise a change after which it no longer holds, and has to be seen not to hold.
//!
//! A change replaces a text in the binary, an SQL statement's most often, by another one that is as long. It breaks what it says
//! and nothing else, so the other promises must go on holding.

use std::time::Duration;

use dunnage_testing::history::{Promise, violations};
use dunnage_testing::language::Language;
use dunnage_testing::mutant::{Change, breed};
use dunnage_testing::setup::built_dunnage;

use crate::faults::{END, Fault};
use crate::ground::Ground;
use crate::plan::Plan;
use crate::run::{sabotaged_run, setup};

/// Which mutants run: `all`, or those that break one promise, such as `J6`. Without it, it is only seen to that the changes can
/// still be made.
const RUN: &str = "DUNNAGE_CHAOS_MUTATIONS";

/// Some changes do harm only when two things meet. It is noticed if one of so many runs notices it.
const RUNS: u64 = 3;

/// A change that breaks a promise.
struct Mutation {
    breaks: Promise,
    why: &'static str,
    /// What brings it to light.
    faults: &'static [Fault],
    /// What stands in the binary, and what comes in its place.
    change: Option<(&'static str, &'static str)>,
    /// Statements for the database, where the binary is not to blame, or not alone.
    sabotage: &'static str,
}

const ON_SQLITE: [Mutation; 5] = [
    Mutation {
        breaks: Promise::J1,
        why: "ended jobs are removed while they are young, not when they are old",
        faults: Fault::ON_SQLITE,
        change: Some(("AND finished_at < :before", "AND finished_at > :before")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J2,
        why: "jobs whose holder is gone are never looked for",
        faults: Fault::ON_SQLITE,
        change: Some(("state = 'running' AND (lease_expires_at <= :now", "state = 'missing' AND (lease_expires_at <= :now")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J4,
        why: "an attempt is not charged when it starts",
        faults: Fault::ON_SQLITE,
        change: Some(("attempt = attempt + 1", "attempt = attempt + 0")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J6,
        why: "leases are taken over although they last",
        faults: Fault::ON_SQLITE,
        change: Some(("(lease_expires_at <= :now", "(lease_expires_at >= 0   ")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J7,
        why: "a job that was submitted before is not found, and nothing forbids a second one",
        faults: Fault::ON_SQLITE,
        change: Some(("AND idempotency_key = :key", "AND false AND     0 = :key")),
        sabotage: "DROP INDEX job_by_idempotency_key",
    },
];

const ON_POSTGRES: [Mutation; 7] = [
    Mutation {
        breaks: Promise::J1,
        why: "ended jobs are removed while they are young, not when they are old",
        faults: &[Fault::Kill, Fault::Pause],
        change: Some(("finished_at < now() - make_interval", "finished_at > now() - make_interval")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J2,
        why: "jobs whose holder is gone are never looked for",
        faults: &[Fault::Kill, Fault::Pause],
        change: Some(("state = 'running' AND (lease_expires_at <= now()", "state = 'missing' AND (lease_expires_at <= now()")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J3,
        why: "a holder that did not hear that it has ended its job may end it once more",
        faults: &[Fault::LoseEnd],
        change: Some(("job.state = 'running' AND job.lease = leaving", "job.state <> 'queued' AND job.lease = leaving")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J4,
        why: "an attempt is not charged when it starts",
        faults: &[Fault::Kill, Fault::Pause],
        change: Some(("attempt = attempt + 1", "attempt = attempt + 0")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J5,
        why: "a holder that was superseded may end the job that others hold",
        faults: &[Fault::LateEnd],
        change: Some(("job.lease = leaving.lease", "job.lease>= leaving.lease")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J6,
        why: "leases are taken over although they last",
        faults: &[Fault::Kill, Fault::Pause],
        change: Some(("(lease_expires_at <= now() OR", "(lease_expires_at >'epoch' OR")),
        sabotage: "",
    },
    Mutation {
        breaks: Promise::J7,
        why: "nothing forbids a second job of the same key",
        faults: &[Fault::Kill, Fault::Cut],
        change: None,
        sabotage: "DROP INDEX job_by_idempotency_key",
    },
];

/// Or the faults that wait for it would do nothing, and nobody would know.
#[test]
fn the_statement_by_which_attempts_end_is_where_the_faults_look_for_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(breed(Change::Text { find: END, replace: "FROM leave_noone" }, folder.path()).exists());
}

#[test]
fn each_mutation_on_sqlite_is_noticed() {
    for mutation in &ON_SQLITE {
        must_be_noticed(mutation, Language::Lua, || Ground::Sqlite);
    }
}

#[test]
fn each_mutation_on_postgres_is_noticed() {
    for mutation in &ON_POSTGRES {
        must_be_noticed(mutation, Language::Python, Ground::postgres);
    }
}

fn must_be_noticed(mutation: &Mutation, language: Language, ground: impl Fn() -> Ground) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mutant = mutation.change.map_or_else(built_dunnage, |(find, replace)| breed(Change::Text { find, replace }, folder.path()));
    let wanted = std::env::var(RUN).unwrap_or_default();
    if wanted != "all" && wanted != mutation.breaks.to_string() {
        eprintln!("{}: {}: can be made; `make chaos` sees whether it is noticed", mutation.breaks, mutation.why);
        return;
    }
    eprintln!("{}: {}", mutation.breaks, mutation.why);
    let setup = || setup(language).binary(mutant.clone());
    let runs = (1..=RUNS).map(|seed| violations(&sabotaged_run(&setup(), &ground(), &plan(mutation, seed), mutation.sabotage)));
    let found = runs.into_iter().find(|found| !found.is_empty());
    let found = found.unwrap_or_else(|| panic!("{} was broken, and nobody noticed: {}", mutation.breaks, mutation.why));
    let others = found.iter().filter(|violation| violation.promise != mutation.breaks).collect::<Vec<_>>();
    assert!(others.is_empty(), "besides {}: {others:?}", mutation.breaks);
}

fn plan(mutation: &Mutation, seed: u64) -> Plan {
    let seconds = Duration::from_secs;
    // What is expected not to end need not be waited for as long as what is.
    let bound = if mutation.breaks == Promise::J2 { seconds(15) } else { seconds(60) };
    let plan = Plan { seed, faults: mutation.faults, during: seconds(10), jobs: 150, slow_every: 10, slow_job: seconds(1), bound };
    match mutation.breaks {
        // A superseded holder can do harm only while another one runs: for that, every job must be slow, and find a free worker.
        Promise::J5 => Plan { during: seconds(20), jobs: 12, slow_every: 1, slow_job: seconds(4), ..plan },
        // A job that lasts would be taken over again and again, and not end in time either.
        Promise::J6 => Plan { slow_job: Duration::from_millis(100), ..plan },
        _ => plan,
    }
}

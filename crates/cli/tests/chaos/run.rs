//! One run: faults and clients together, then peace, then the books.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dunnage_testing::audit::Audit;
use dunnage_testing::history::{History, Outcome, Submission};
use dunnage_testing::language::Language;
use dunnage_testing::setup::Setup;

use crate::clients::Clients;
use crate::faults::rage;
use crate::fleet::Fleet;
use crate::ground::Ground;
use crate::plan::Plan;

/// Short, so that much is taken over; long enough for a busy machine to renew it.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
const FLAGS: [&str; 6] = ["--lease", "2s", "--max-attempts", "50", "--job-workers", "2"];
const SUBMITTERS: usize = 4;
const ASKERS: u32 = 2;
/// How often it is looked whether every job has ended.
const TICK: Duration = Duration::from_millis(100);

/// The service that runs in every run.
pub(crate) fn setup(language: Language) -> Setup {
    Setup::new(language, "chaos").flags(&FLAGS)
}

/// Has a fleet live through what is planned, and returns what was observed.
pub(crate) fn run(setup: &Setup, ground: &Ground, plan: &Plan) -> History {
    sabotaged_run(setup, ground, plan, "")
}

/// Like [`run`], on a database that was changed by these statements.
pub(crate) fn sabotaged_run(setup: &Setup, ground: &Ground, plan: &Plan, sabotage: &str) -> History {
    eprintln!("chaos: {plan:?}; to have it again, set DUNNAGE_CHAOS_SEED={}", plan.seed);
    let mut fleet = Fleet::start(setup, ground);
    let audit = ground.audit(setup);
    audit.install();
    audit.sabotage(sabotage);
    let clients = Clients::new(plan, fleet.addresses(), setup.file("walk.csv", "1,2,3\n"));
    let (faults, settled) = std::thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            scope.spawn(|| clients.submit());
        }
        for client in 1..=ASKERS {
            let clients = &clients;
            scope.spawn(move || clients.ask(client));
        }
        let faults = rage(&mut fleet, ground, plan);
        let settled = settle(&fleet, &clients, &audit, plan);
        (faults, settled)
    });
    let (submissions, outputs) = clients.heard();
    let left = fleet.end();
    let history = books(&audit, History { submissions, outputs, left, ..History::default() });
    report(&history, &faults, settled);
    require_accepted(&history, plan);
    history
}

/// Waits until every job has been accepted and has ended, but not for longer than it may take; returns how long it took.
fn settle(fleet: &Fleet<'_>, clients: &Clients<'_>, audit: &Audit<'_>, plan: &Plan) -> Duration {
    let peace = Instant::now();
    clients.have_enough();
    fleet.wait_until_ready();
    while (!clients.are_content() || audit.unfinished() > 0) && peace.elapsed() < plan.bound {
        std::thread::sleep(TICK);
    }
    clients.give_up();
    peace.elapsed()
}

fn books(audit: &Audit<'_>, heard: History) -> History {
    History { changes: audit.changes(), jobs: audit.jobs(), effects: audit.effects(), ..heard }
}

/// A service that accepts nothing breaks no promise about jobs.
fn require_accepted(history: &History, plan: &Plan) {
    let accepted = history.submissions.iter().filter(|call| matches!(call.outcome, Outcome::Accepted(_)));
    let keys: BTreeSet<_> = accepted.map(|call| &call.key).collect();
    let others = history.submissions.iter().filter(|call| !keys.contains(&call.key));
    assert_eq!(keys.len(), plan.jobs, "not every job was accepted in the end; the others were answered {:?}", answers(others));
}

/// How often which answer was heard that names no job.
fn answers<'a>(submissions: impl IntoIterator<Item = &'a Submission>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for submission in submissions {
        match &submission.outcome {
            Outcome::Accepted(_) => continue,
            Outcome::Refused(refusal) | Outcome::Failed(refusal) => *counts.entry(refusal.to_string()).or_default() += 1,
            Outcome::Unknown => *counts.entry("not at all".to_owned()).or_default() += 1,
        }
    }
    counts
}

fn report(history: &History, faults: &BTreeMap<String, u32>, settled: Duration) {
    let repeated = history.jobs.iter().filter(|job| job.lease > 1).count();
    eprintln!(
        "chaos: {faults:?}; {} jobs, {repeated} of them started more than once; {} submissions, answered otherwise than with a job {:?}; \
         {} outputs; all had ended {settled:?} after the last fault",
        history.jobs.len(),
        history.submissions.len(),
        answers(&history.submissions),
        history.outputs.len(),
    );
}

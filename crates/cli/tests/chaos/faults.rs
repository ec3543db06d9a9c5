//! What goes wrong, drawn from the seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dunnage_testing::proxy::{Mode, Modes};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::fleet::Fleet;
use crate::ground::Ground;
use crate::plan::Plan;
use crate::run::LEASE;

/// How often it is seen to whether something has to be put right.
const TICK: Duration = Duration::from_millis(50);
/// How long it stays at what there is before something else goes wrong.
const BETWEEN: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_millis(700);

/// Stands in the statement by which attempts end, and in no other.
pub(crate) const END: &str = "FROM leave_jobs(";

/// Kinds of faults. Those of the network and of the database are for fleets on PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL for a replica; another takes its place.
    Kill,
    /// SIGSTOP for a replica and its workers, for longer than its leases.
    Pause,
    /// The database crashes and recovers.
    RestartDatabase,
    /// A replica's connections are reset.
    Reset,
    /// They end after some bytes, in the middle of what was being said.
    Cut,
    /// They are half open: what one side says no longer arrives.
    HalfOpen,
    /// Nothing arrives on either side.
    Partition,
    /// What a replica says arrives, the answers do not.
    SwallowAnswers,
    /// The end of an attempt arrives, but nothing that is answered from then on.
    LoseEnd,
    /// The end of an attempt, and all that comes after it, is held back until another attempt has most likely begun.
    LateEnd,
    /// Everything takes longer.
    Delay,
}

impl Fault {
    pub(crate) const ON_SQLITE: &[Self] = &[Self::Kill, Self::Pause];
    pub(crate) const ON_POSTGRES: &[Self] = &[
        Self::Kill,
        Self::Pause,
        Self::RestartDatabase,
        Self::Reset,
        Self::Cut,
        Self::HalfOpen,
        Self::Partition,
        Self::SwallowAnswers,
        Self::LoseEnd,
        Self::LateEnd,
        Self::Delay,
    ];
}

/// Something that is wrong at the moment.
struct Wrong {
    fault: Fault,
    replica: usize,
    until: Instant,
}

/// Has things go wrong, with several replicas at a time but never with all of a fleet, for as long as planned, then puts everything
/// right. Returns how often what happened.
pub(crate) fn rage(fleet: &mut Fleet<'_>, ground: &Ground, plan: &Plan) -> BTreeMap<String, u32> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let (mut wrong, mut deck, mut counts) = (Vec::<Wrong>::new(), Vec::new(), BTreeMap::new());
    let end = Instant::now() + plan.during;
    let mut next = Instant::now();
    while Instant::now() < end {
        wrong.retain(|wrong| wrong.until > Instant::now() || put_right(fleet, wrong));
        let well = (0..fleet.size()).filter(|replica| wrong.iter().all(|wrong| wrong.replica != *replica)).collect::<Vec<_>>();
        let others_go_on = well.len() > 1 || fleet.size() == 1;
        if let Some(&replica) = well.choose(&mut rng).filter(|_| others_go_on && Instant::now() >= next) {
            let fault = draw(&mut deck, plan.faults, &mut rng);
            *counts.entry(format!("{fault:?}")).or_default() += 1;
            eprintln!(
                "chaos: {:.1?} before the end: {fault:?} for replica {replica}",
                end.saturating_duration_since(Instant::now())
            );
            let lasts = inflict(fleet, ground, fault, replica, &mut rng);
            wrong.extend(lasts.map(|time| Wrong { fault, replica, until: Instant::now() + time }));
            next = Instant::now() + rng.random_range(BETWEEN);
        }
        std::thread::sleep(TICK);
    }
    for wrong in &wrong {
        put_right(fleet, wrong);
    }
    counts
}

/// Every kind comes before one comes again, so that a short run has most of them.
fn draw(deck: &mut Vec<Fault>, faults: &[Fault], rng: &mut StdRng) -> Fault {
    if deck.is_empty() {
        deck.extend(faults);
        deck.shuffle(rng);
    }
    deck.pop().expect("there are faults")
}

/// Returns how long it lasts, unless it is over at once.
fn inflict(fleet: &mut Fleet<'_>, ground: &Ground, fault: Fault, replica: usize, rng: &mut StdRng) -> Option<Duration> {
    let short = rng.random_range(Duration::from_millis(300)..Duration::from_millis(1500));
    let beyond_the_lease = LEASE + 2 * short;
    match fault {
        Fault::Kill => {
            fleet.kill(replica, ground);
            return None;
        }
        Fault::RestartDatabase => {
            if let Ground::Postgres { cluster, .. } = ground {
                cluster.restart_immediately();
            }
            return None;
        }
        Fault::Reset => {
            fleet.reset_network(replica);
            return None;
        }
        Fault::Pause => {
            fleet.pause(replica);
            return Some(beyond_the_lease);
        }
        Fault::Cut => {
            let mode = Mode::CutAfter(rng.random_range(1..4000));
            fleet.set_network(replica, if rng.random() { answers(mode) } else { requests(mode) });
        }
        Fault::HalfOpen => {
            fleet.set_network(replica, if rng.random() { answers(Mode::Blackhole) } else { requests(Mode::Blackhole) });
            return Some(beyond_the_lease);
        }
        Fault::Partition => {
            fleet.set_network(replica, Modes::both(Mode::Blackhole));
            return Some(beyond_the_lease);
        }
        Fault::SwallowAnswers => fleet.set_network(replica, answers(Mode::Swallow)),
        Fault::LoseEnd => fleet.set_network_at(replica, END, answers(Mode::Swallow)),
        Fault::LateEnd => {
            fleet.set_network_at(replica, END, Modes::both(Mode::Blackhole));
            return Some(LEASE + beyond_the_lease);
        }
        Fault::Delay => fleet.set_network(replica, Modes::both(Mode::Delay(rng.random_range(TICK..6 * TICK)))),
    }
    Some(short)
}

fn answers(mode: Mode) -> Modes {
    Modes { to_client: mode, ..Modes::PASS }
}

fn requests(mode: Mode) -> Modes {
    Modes { to_server: mode, ..Modes::PASS }
}

/// Returns whether it still is wrong, which it is not.
fn put_right(fleet: &Fleet<'_>, wrong: &Wrong) -> bool {
    match wrong.fault {
        Fault::Pause => fleet.resume(wrong.replica),
        _ => fleet.set_network(wrong.replica, Modes::PASS),
    }
    false
}

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

/// Kinds of faults. Those of the network and of the database are for fleets on PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
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
    /// Everything takes longer.
    Delay,
}

impl Fault {
    const ON_SQLITE: [Self; 2] = [Self::Kill, Self::Pause];
    const ON_POSTGRES: [Self; 9] = [
        Self::Kill,
        Self::Pause,
        Self::RestartDatabase,
        Self::Reset,
        Self::Cut,
        Self::HalfOpen,
        Self::Partition,
        Self::SwallowAnswers,
        Self::Delay,
    ];
}

/// Something that is wrong at the moment.
struct Wrong {
    fault: Fault,
    replica: usize,
    until: Instant,
}

/// Has things go wrong, several at a time, for as long as planned, then puts everything right. Returns how often what happened.
pub(crate) fn rage(fleet: &mut Fleet<'_>, ground: &Ground, plan: &Plan) -> BTreeMap<String, u32> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let (mut wrong, mut deck, mut counts) = (Vec::<Wrong>::new(), Vec::new(), BTreeMap::new());
    let end = Instant::now() + plan.during;
    let mut next = Instant::now();
    while Instant::now() < end {
        wrong.retain(|wrong| wrong.until > Instant::now() || put_right(fleet, wrong));
        let well = (0..fleet.size()).filter(|replica| wrong.iter().all(|wrong| wrong.replica != *replica)).collect::<Vec<_>>();
        if let Some(&replica) = well.choose(&mut rng).filter(|_| Instant::now() >= next) {
            let fault = draw(&mut deck, ground, &mut rng);
            *counts.entry(format!("{fault:?}")).or_default() += 1;
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
fn draw(deck: &mut Vec<Fault>, ground: &Ground, rng: &mut StdRng) -> Fault {
    if deck.is_empty() {
        deck.extend(if matches!(ground, Ground::Sqlite) { &Fault::ON_SQLITE[..] } else { &Fault::ON_POSTGRES });
        deck.shuffle(rng);
    }
    deck.pop().expect("there are faults")
}

/// Returns how long it lasts, unless it is over at once.
fn inflict(fleet: &mut Fleet<'_>, ground: &Ground, fault: Fault, replica: usize, rng: &mut StdRng) -> Option<Duration> {
    let short = rng.random_range(Duration::from_millis(300)..Duration::from_millis(1500));
    let beyond_the_lease = LEASE + short;
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

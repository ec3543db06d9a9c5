//! `dunnage-guard`: counts instructions and holds them to the committed limits, or writes the limits anew.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use dunnage_guard::subject::{SUBJECTS, Subject};
use dunnage_guard::{Limits, Place, Report, Tools};
use mimalloc::MiMalloc;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// As in `dunnage`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Counts the instructions of what every request passes through.
#[derive(Parser)]
struct Invocation {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fail if a count has left its limit.
    Check {
        /// The file of limits.
        limits: PathBuf,
    },
    /// Write what is counted as the limits.
    Write {
        /// The file of limits.
        limits: PathBuf,
    },
    /// Count so many times, and show each count.
    Spread {
        /// How many times.
        times: u32,
    },
    /// Do rounds of one thing; for callgrind.
    Run {
        /// Its name.
        name: String,
        /// How many rounds.
        rounds: u32,
    },
}

fn main() -> anyhow::Result<()> {
    match Invocation::parse().command {
        Command::Run { name, rounds } => Subject::named(&name)?.run(&Place::own()?, rounds),
        Command::Check { limits } => check(&Limits::read(&limits)?),
        Command::Write { limits } => write(&limits),
        Command::Spread { times } => spread(times),
    }
}

fn check(limits: &Limits) -> anyhow::Result<()> {
    let report = Report::new(&count(|subject, place| subject.count_beside(limits.of(subject.name)?, place))?, limits)?;
    show(&report);
    report.judge(limits, &Tools::here()?)
}

fn write(path: &Path) -> anyhow::Result<()> {
    let counts = count(Subject::count_often)?;
    let instructions = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    Limits { tools: Tools::here()?, instructions }.write(path)
}

fn spread(times: u32) -> anyhow::Result<()> {
    for _ in 0..times {
        show(&format!("{:?}", count(Subject::count)?));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn show(found: &dyn Display) {
    println!("{found}");
}

/// Counts everything, on one core.
fn count(of: impl Fn(&Subject, &Place) -> anyhow::Result<u64>) -> anyhow::Result<Vec<(&'static str, u64)>> {
    stay_on_one_core()?;
    let place = Place::own()?;
    SUBJECTS.iter().map(|subject| Ok((subject.name, of(subject, &place)?))).collect()
}

/// Whatever is started from here stays there, too: how many threads a server has, and which of them runs next, is then the same on
/// every machine.
fn stay_on_one_core() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None).context("the cores that may be used cannot be found out")?;
    let first = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).context("no core may be used")?;
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).context("it is not possible to stay on one core")
}

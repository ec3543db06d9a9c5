//! One soak: clients and samples together, then quiet, then the books.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;

use crate::clients::{Clients, STEADY};
use crate::mischief::MISCHIEF;
use crate::plan::Plan;
use crate::report::{Outcome, growth};
use crate::samples::{Sample, temporary};

/// What is small enough to be met all the time.
const FLAGS: [&str; 16] = [
    "--timeout",
    "1s",
    "--max-queue",
    "16",
    "--recycle-after",
    "500",
    "--retention",
    "30s",
    "--job-idle",
    "2s",
    "--job-timeout",
    "2s",
    "--max-attempts",
    "2",
    "--max-log-lines",
    "100",
];
/// How long everything may take to be as it was at the start, once there is quiet: threads without work stay for 10 s.
const QUIET: Duration = Duration::from_secs(45);
/// Threads that wait for work which may block come and go.
const THREADS: usize = 2;

/// Has a server bear what is planned.
pub(crate) fn soak(language: Language, plan: &Plan, binary: Option<PathBuf>) -> Outcome {
    let setup = Setup::new(language, "soak").flags(&FLAGS);
    let folder = temporary(&setup);
    std::fs::create_dir(&folder).expect("the folder is new");
    let setup = setup.environment("TMPDIR", folder.to_str().expect("its name is UTF-8"));
    let setup = match binary {
        Some(binary) => setup.binary(binary),
        None => setup,
    };
    let service = setup.start();
    let clients = Clients::new(&service, &setup);
    clients.rehearse();
    let before = quiet(&service, &setup, None);
    let samples = bear(&service, &setup, &clients, plan);
    let after = quiet(&service, &setup, Some(&before));
    let heard = clients.heard();
    let mut outcome = Outcome { language, samples, answers: heard.answers, complaints: heard.complaints };
    judge(&mut outcome, plan, &before, &after);
    eprintln!("{outcome}");
    outcome
}

/// All clients at once, until the time is over; what the server looked like meanwhile.
fn bear(service: &Service, setup: &Setup, clients: &Clients<'_>, plan: &Plan) -> Vec<Sample> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..STEADY {
            scope.spawn(move || clients.ask_steadily(number));
        }
        scope.spawn(|| clients.submit_jobs());
        for mischief in MISCHIEF {
            scope.spawn(move || clients.again_and_again(mischief));
        }
        while begin.elapsed() < plan.during {
            samples.push(Sample::take(service, setup, begin));
            std::thread::sleep(plan.sample_every);
        }
        clients.have_enough();
    });
    samples
}

/// Waits until the server is as it was `before`, or without that until it has come to rest, but not for long; returns how it is then.
fn quiet(service: &Service, setup: &Setup, before: Option<&Sample>) -> Sample {
    let begin = Instant::now();
    let mut last = Sample::take(service, setup, begin);
    loop {
        std::thread::sleep(Duration::from_secs(3));
        let now = Sample::take(service, setup, begin);
        let is_quiet = match before {
            Some(before) => differences(before, &now).is_empty(),
            None => (now.descriptors, now.threads, now.processes) == (last.descriptors, last.threads, last.processes),
        };
        if is_quiet || begin.elapsed() > QUIET {
            return now;
        }
        last = now;
    }
}

/// What there is more of than before.
fn differences(before: &Sample, after: &Sample) -> Vec<String> {
    let counts: [(&str, usize, usize, usize); 4] = [
        ("descriptors", before.descriptors, after.descriptors, 0),
        ("threads", before.threads, after.threads, THREADS),
        ("processes", before.processes, after.processes, 0),
        ("temporary files", before.temporary_files, after.temporary_files, 0),
    ];
    let more = counts.iter().filter(|(_, before, after, allowed)| *after > before + allowed);
    more.map(|(what, before, after, _)| format!("{what}: {before} before, {after} after")).collect()
}

fn judge(outcome: &mut Outcome, plan: &Plan, before: &Sample, after: &Sample) {
    outcome.complaints.extend(differences(before, after));
    let warm: Vec<_> = outcome.samples.iter().filter(|it| it.minutes * 60.0 > plan.warm_up.as_secs_f64()).copied().collect();
    let (grows, allowed) = (growth(&warm, |sample| sample.server_mb), plan.growth());
    if grows >= allowed {
        outcome.complaints.push(format!("the server's memory grows by {grows:.2} MB a minute; {allowed:.2} are allowed"));
    }
    let right = outcome.answers.get("right").copied().unwrap_or(0);
    if (right as f64) < plan.during.as_secs_f64() {
        outcome.complaints.push(format!("only {right} answers were right: nothing was soaked"));
    }
}

//! Waits for a job, and reads its log as it grows.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use dunnage_types::{JobId, JobState, LogLine};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::answer::{Job, Logs};
use super::{Answer, Client, ClientError, interrupt, job_path, show};

/// The first pause between two looks at a job; each is half as long again as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a service may be away, as while it is restarted, before waiting is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many log lines are asked for at a time.
const PAGE: usize = 1000;

/// Waits until the job has ended, and returns it with the answer that said so.
///
/// On standard error there is a progress bar if that is a terminal, and the job's log in any case. Ctrl-C ends the process and
/// leaves the job running.
pub(crate) fn wait(client: &Client, id: JobId) -> anyhow::Result<(Job, Answer)> {
    let bar = Bar::new();
    let on_screen = bar.0.clone();
    interrupt::on_interrupt(move || {
        on_screen.finish_and_clear();
        eprintln!("the job goes on; follow it with `dunnage logs -f {id}`, or end it with `dunnage cancel {id}`");
    })?;
    let mut log = Log::new(id);
    let mut pauses = Pauses::default();
    let mut patience = Patience::default();
    loop {
        match look(client, id, &mut log, |line| bar.print(&show::log_line(line))) {
            Ok((job, answer)) => {
                patience = Patience::default();
                bar.show(&job);
                if job.state.is_terminal() {
                    bar.0.finish_and_clear();
                    return Ok((job, answer));
                }
            }
            Err(error) => {
                patience.try_again_after(error).with_context(|| format!("lost sight of job {id}, which may go on"))?;
                bar.0.set_message("the service does not answer; trying again");
            }
        }
        thread::sleep(pauses.next());
    }
}

/// Prints the job's log to `print`, and goes on until the job has ended if `follow` is set.
pub(crate) fn logs(
    client: &Client,
    id: JobId,
    follow: bool,
    mut print: impl FnMut(&LogLine) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut log = Log::new(id);
    let mut pauses = Pauses::default();
    let mut patience = Patience::default();
    loop {
        let mut printed = Ok(());
        let looked = look(client, id, &mut log, |line| {
            if printed.is_ok() {
                printed = print(line);
            }
        });
        printed?;
        match looked {
            Ok((job, _)) if !follow || job.state.is_terminal() => return Ok(()),
            Ok(_) => patience = Patience::default(),
            Err(error) if follow => patience.try_again_after(error)?,
            Err(error) => return Err(error.into()),
        }
        thread::sleep(pauses.next());
    }
}

/// Looks at the job and then at its log, in this order: what is written before a job ends is in the log by then.
fn look(client: &Client, id: JobId, log: &mut Log, print: impl FnMut(&LogLine)) -> Result<(Job, Answer), ClientError> {
    let answer = client.get(&format!("/status?jobId={id}"))?;
    let job: Job = answer.read()?;
    log.read_on(client, print)?;
    Ok((job, answer))
}

/// A job's log, and how far it has been read.
struct Log {
    id: JobId,
    after: u64,
}

impl Log {
    fn new(id: JobId) -> Self {
        Self { id, after: 0 }
    }

    fn read_on(&mut self, client: &Client, mut print: impl FnMut(&LogLine)) -> Result<(), ClientError> {
        loop {
            let path = format!("{}/logs?after={}&limit={PAGE}", job_path(self.id), self.after);
            let page: Logs = client.get(&path)?.read()?;
            page.lines.iter().for_each(&mut print);
            let last = page.lines.last().map_or(page.next, |line| line.sequence.max(page.next));
            if last <= self.after {
                return Ok(());
            }
            self.after = last;
        }
    }
}

/// Rising pauses between looks.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 3 / 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Bears with a service that is away for a while.
#[derive(Default)]
struct Patience(Option<Instant>);

impl Patience {
    fn try_again_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        let since = *self.0.get_or_insert_with(Instant::now);
        if error.is_temporary() && since.elapsed() < PATIENCE { Ok(()) } else { Err(error) }
    }
}

/// The progress bar; invisible where nobody looks.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let visible = io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1000), target);
        bar.set_style(style("{spinner} {msg}"));
        if visible {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    /// Prints a line above the bar.
    fn print(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    fn show(&self, job: &Job) {
        let fraction = job.progress.as_ref().and_then(|progress| progress.fraction).filter(|_| job.state == JobState::Running);
        match fraction {
            Some(fraction) => {
                self.0.set_style(style("{spinner} {bar:30} {percent:>3}%  {msg}"));
                // Within 0 to 1000, so nothing is cut off.
                self.0.set_position((fraction.clamp(0.0, 1.0) * 1000.0) as u64);
            }
            None => self.0.set_style(style("{spinner} {msg}")),
        }
        self.0.set_message(show::progress(job));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second() {
        let mut pauses = Pauses::default();
        let millis: Vec<_> = (0..8).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(millis, [100, 150, 225, 337, 506, 759, 1000, 1000]);
    }

    #[test]
    fn patience_is_for_what_may_pass() {
        let mut patience = Patience::default();
        assert!(patience.try_again_after(ClientError::refused(503, "")).is_ok());
        assert!(patience.try_again_after(ClientError::refused(404, "")).is_err());
        let mut exhausted = Patience(Instant::now().checked_sub(PATIENCE));
        assert!(exhausted.try_again_after(ClientError::refused(503, "")).is_err());
    }
}

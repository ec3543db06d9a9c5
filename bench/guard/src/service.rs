//! The whole server, as it is shipped, under callgrind, with the runtime without a language for a worker.

use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::callgrind::Callgrind;
use crate::client::{Client, Question};
use crate::object;
use crate::place::Place;

/// How long the server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nothing is asked of S3 a second time, nor done because time has passed.
const SETTINGS: [&str; 6] = ["serve", "model.txt", "--port", "0", "--revalidate", "never"];
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a server took for its start, its answers and its end.
pub(crate) struct Taken {
    pub(crate) instructions: u64,
    /// How long it was up.
    pub(crate) time: Duration,
}

/// Starts a server, asks it so many equal questions one after the other, and ends it, but not before it has been up for `at_least`: what
/// it does now and then, such as looking for orphans, it has then done as often as another that was up for as long.
pub(crate) fn take(
    place: &Place,
    callgrind: &Callgrind,
    question: &Question,
    rounds: u32,
    at_least: Duration,
) -> anyhow::Result<Taken> {
    object::put()?;
    let service = Service::start(place, callgrind)?;
    let begin = Instant::now();
    let asked = service.ask(question, rounds).with_context(|| format!("the server's words:\n{}", callgrind.words()));
    std::thread::sleep(at_least.saturating_sub(begin.elapsed()));
    let time = begin.elapsed();
    service.stop()?;
    asked?;
    Ok(Taken { instructions: callgrind.total()?, time })
}

struct Service<'a> {
    child: Child,
    callgrind: &'a Callgrind,
}

impl<'a> Service<'a> {
    fn start(place: &Place, callgrind: &'a Callgrind) -> anyhow::Result<Self> {
        std::fs::write(callgrind.folder().join("model.txt"), "constant").context("the script cannot be written")?;
        let mut command = callgrind.command(&place.server()?)?;
        command.args(SETTINGS).arg("--runtime").arg(place.runtime()?).envs(object::variables()?);
        let child = command.spawn().context("`valgrind` cannot be run; install it")?;
        Ok(Self { child, callgrind })
    }

    fn ask(&self, question: &Question, rounds: u32) -> anyhow::Result<()> {
        let mut client = Client::connect(self.address()?)?;
        (0..rounds).try_for_each(|_| client.ask(question))
    }

    /// Where it listens, as soon as it does.
    fn address(&self) -> anyhow::Result<SocketAddr> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(address) = self.callgrind.words().lines().find_map(listening) {
                return Ok(address);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        bail!("the server does not listen after {} s", PATIENCE.as_secs())
    }

    /// Tells it to end, and waits until it has.
    fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("the server cannot be told to end")?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.child.try_wait().context("the server cannot be waited for")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended with {status}:\n{}", self.callgrind.words()),
                None => std::thread::sleep(LOOK_AGAIN),
            }
        }
        bail!("the server does not end:\n{}", self.callgrind.words())
    }
}

impl Drop for Service<'_> {
    /// It does not outlive a failure.
    fn drop(&mut self) {
        // It has ended where it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line of the log that tells it.
fn listening(line: &str) -> Option<SocketAddr> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["message"] == "listening").then(|| entry["address"].as_str()?.parse().ok())?
}

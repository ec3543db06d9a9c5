//! Runs a command beside a private PostgreSQL and a private S3, and ends them with it.
//!
//! The command finds them where programs look: `DATABASE_URL`, the usual AWS variables, and `DUNNAGE_TEST_BUCKET`.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Parser, ValueEnum};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::s3::Server;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(about = "Runs a command beside a private PostgreSQL and a private S3")]
struct Arguments {
    /// Start a PostgreSQL, with `fsync` as in production
    #[arg(long)]
    postgres: bool,
    /// Start an S3 server
    #[arg(long)]
    s3: Option<Kind>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// In Python; `tools/setup.sh test` installs it
    Moto,
    /// In Rust; `tools/setup.sh s3` installs it
    Garage,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cluster = arguments.postgres.then(|| Cluster::start_with(&[("fsync", "on")]));
    let server = arguments.s3.map(start);
    let (program, rest) = arguments.command.split_first().expect("clap asks for a command");
    let mut command = Command::new(program);
    command.args(rest);
    if let Some(cluster) = &cluster {
        command.env("DATABASE_URL", cluster.database());
    }
    if let Some(server) = &server {
        command.envs(server.environment()).env("DUNNAGE_TEST_BUCKET", server.first_bucket());
    }
    match run(command) {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("`{program}` cannot be run: {error}");
            ExitCode::from(127)
        }
    }
}

/// Runs a command to its end, which it decides on itself when this process is told to end. Should this process be killed, the
/// servers end with it all the same.
#[tokio::main(flavor = "current_thread")]
async fn run(command: Command) -> io::Result<ExitStatus> {
    let mut terminate = signal(SignalKind::terminate())?;
    // A terminal interrupts the command as well.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = tokio::process::Command::from(command).spawn()?;
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            _ = terminate.recv() => tell_to_end(&child)?,
            _ = interrupt.recv() => {}
        }
    }
}

fn tell_to_end(child: &Child) -> io::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    // It is not waited for yet, so that the id is still its own.
    pid.map_or(Ok(()), |pid| Ok(kill_process(pid, Signal::TERM)?))
}

/// The command's status as shells have it: one that a signal has ended counts as 128 and the signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn start(kind: Kind) -> Server {
    match kind {
        Kind::Moto => Server::moto(),
        Kind::Garage => Server::garage().unwrap_or_else(|| {
            eprintln!("garage is not installed; run `tools/setup.sh s3`");
            std::process::exit(1)
        }),
    }
}

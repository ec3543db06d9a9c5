//! Runs a command beside a private PostgreSQL and a private S3, and ends them with it.
//!
//! The command finds them where programs look: `DATABASE_URL`, the usual AWS variables, and `DUNNAGE_TEST_BUCKET`.

use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::s3::Server;

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
    // The servers end with this process, however it ends; so Ctrl-C needs no care.
    match command.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("`{program}` cannot be started: {error}");
            ExitCode::from(127)
        }
    }
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

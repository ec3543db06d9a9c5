//! `dunnage logs`: what a job has written.

use std::process::ExitCode;

use clap::Args;
use dunnage_types::{JobId, LogLine};

use crate::client::{Connection, follow, show};
use crate::text::print;

/// Show the log of a job
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage logs 6f1c2a34-0000-4000-8000-000000000000
  dunnage logs -f 6f1c2a34-0000-4000-8000-000000000000   until the job ends")]
pub(crate) struct Logs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
    /// Go on until the job ends
    #[arg(short, long)]
    follow: bool,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Logs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let show = |line: &LogLine| if self.json { print(serde_json::to_string(line)?) } else { print(show::log_line(line)) };
        follow::logs(&self.connection.client()?, self.id, self.follow, show)?;
        Ok(ExitCode::SUCCESS)
    }
}

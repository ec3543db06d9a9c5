//! `dunnage status`: how one job stands.

use std::process::ExitCode;

use clap::Args;
use dunnage_types::JobId;

use crate::client::answer::Job;
use crate::client::{Connection, show};
use crate::text::print;

/// Show how a job stands
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage status 6f1c2a34-0000-4000-8000-000000000000
  dunnage status 6f1c2a34-0000-4000-8000-000000000000 --json | jq -r .status")]
pub(crate) struct Status {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
    /// Print the answer as it came, in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let answer = self.connection.client()?.get(&format!("/status?jobId={}", self.id))?;
        print(if self.json { answer.text } else { show::details(&answer.read::<Job>()?) })?;
        Ok(ExitCode::SUCCESS)
    }
}

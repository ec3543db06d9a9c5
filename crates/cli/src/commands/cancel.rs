//! `dunnage cancel`: ends a job early.

use std::process::ExitCode;

use clap::Args;
use dunnage_types::JobId;

use crate::client::{Connection, job_path};

/// Cancel a job
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage cancel 6f1c2a34-0000-4000-8000-000000000000

A running script is told first, and ended if it does not end by itself. A job that has ended cannot be cancelled.")]
pub(crate) struct Cancel {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
    #[command(flatten)]
    connection: Connection,
}

impl Cancel {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let answer = self.connection.client()?.delete(&job_path(self.id))?;
        let outcome = if answer.status == 202 { "is being cancelled" } else { "is cancelled" };
        eprintln!("job {} {outcome}", self.id);
        Ok(ExitCode::SUCCESS)
    }
}

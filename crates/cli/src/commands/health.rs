//! `dunnage health`: whether the service is ready, as an exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::client::Connection;
use crate::settings::value;
use crate::text::print;

/// Ask whether the service is ready
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage health && echo ready
  HEALTHCHECK CMD [\"dunnage\", \"health\"]               in a Dockerfile

Exits with 0 if the service is ready to answer, and with 1 otherwise.")]
pub(crate) struct Health {
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    timeout: Duration,
    #[command(flatten)]
    connection: Connection,
}

impl Health {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.connection.client_within(Some(self.timeout))?.get("/healthz/ready")?;
        print("ready")?;
        Ok(ExitCode::SUCCESS)
    }
}

//! `dunnage health`: whether the service is ready, or alive, as an exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli;
use crate::client::{Client, Connection, unverified};
use crate::settings::value;
use crate::text::print;

/// Ask whether the service is ready
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage health && echo ready
  dunnage health --live || systemctl restart gait
  HEALTHCHECK CMD [\"dunnage\", \"health\"]               in a Dockerfile

Without --url it asks the server of this machine that the same environment and dunnage.toml are for, by https if that has a
certificate; who answers there is not verified, and no token is sent.

Exits with 0 if the answer is yes, with 1 if it is not, and with 2 if the settings make no sense.")]
pub(crate) struct Health {
    /// Ask whether to leave it running rather than whether to send it requests
    #[arg(long)]
    live: bool,
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    timeout: Duration,
    #[command(flatten)]
    connection: Connection,
}

impl Health {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let (path, yes) = if self.live { ("/healthz/live", "alive") } else { ("/healthz/ready", "ready") };
        self.client()?.get(path)?;
        print(yes)?;
        Ok(ExitCode::SUCCESS)
    }

    fn client(&self) -> anyhow::Result<Client> {
        if self.connection.is_given() {
            return self.connection.client_within(Some(self.timeout));
        }
        Ok(unverified(cli::settings_of_serve()?.local_url()?, self.timeout))
    }
}

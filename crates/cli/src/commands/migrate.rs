//! `dunnage migrate`: brings the schema of a PostgreSQL database up to date.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::settings::secret::{self, Secret};
use crate::text::print;

/// Bring the schema of a PostgreSQL database up to date
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage migrate                                     the database that DUNNAGE_DATABASE_URL names
  dunnage migrate --database-url postgres://dunnage@db.example/models

`dunnage serve` does the same at its start, also when several replicas start at once. Use this where the account of the
service may not change tables: run it with one that may, before a new version is rolled out.")]
pub(crate) struct Migrate {
    /// The database
    #[arg(long, env = "DUNNAGE_DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = secret::parser())]
    database_url: Secret,
}

impl Migrate {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime's threads")?;
        let migrated = runtime.block_on(dunnage_server::migrate(self.database_url.reveal()))?;
        if migrated.from == migrated.to {
            print(format!("the schema is up to date: version {}", migrated.to))?;
        } else {
            print(format!("the schema was brought from version {} to {}", migrated.from, migrated.to))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

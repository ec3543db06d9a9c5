//! `dunnage models`: the versions that training has published, and which of them serves.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use dunnage_types::Version;

use crate::client::answer::{ModelVersion, Models as Listed, Replica};
use crate::client::{Client, Connection, show};
use crate::text::{print, table};

/// List the versions of the model, or activate one
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  dunnage models                                      `*` marks the version that serves, and the replica that answers
  dunnage models activate 3                           roll back, without a failed request"
)]
pub(crate) struct Models {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the answer as it came, in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let a version serve
    Activate {
        /// The version's number
        version: Version,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Models {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match &self.action {
            Some(Action::Activate { version, connection }) => activate(&connection.client()?, *version)?,
            None => self.list(&self.connection.client()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self, client: &Client) -> anyhow::Result<()> {
        let answer = client.get("/models")?;
        let Listed { versions, replicas } = answer.read()?;
        match versions.as_slice() {
            _ if self.json => return Ok(print(answer.text)?),
            [] => eprintln!("no versions; the first training publishes one"),
            versions => print(listed(versions))?,
        }
        if replicas.len() > 1 {
            print(format!("\n{}", present(&replicas)))?;
        }
        Ok(())
    }
}

fn activate(client: &Client, version: Version) -> anyhow::Result<()> {
    client.post_empty(&format!("/models/{version}/activate"))?;
    eprintln!("version {version} is active");
    Ok(())
}

fn listed(versions: &[ModelVersion]) -> String {
    let heading = ["", "version", "state", "age", "job", "error"].map(str::to_owned);
    table(&std::iter::once(heading).chain(versions.iter().map(row)).collect::<Vec<_>>())
}

fn present(replicas: &[Replica]) -> String {
    let heading = ["", "replica", "serves", "up", "error"].map(str::to_owned);
    table(&std::iter::once(heading).chain(replicas.iter().map(replica_row)).collect::<Vec<_>>())
}

fn replica_row(replica: &Replica) -> [String; 5] {
    let serves = match replica.serving {
        Some(version) => version.to_string(),
        None if replica.ready => "no version yet".to_owned(),
        None => "nothing".to_owned(),
    };
    [
        if replica.is_this { "*" } else { " " }.to_owned(),
        replica.id.clone(),
        serves,
        show::age(replica.started_at),
        replica.error.clone().unwrap_or_default(),
    ]
}

fn row(version: &ModelVersion) -> [String; 6] {
    [
        if version.active { "*" } else { " " }.to_owned(),
        version.version.to_string(),
        version.state.as_str().to_owned(),
        show::age(version.created_at),
        version.job.to_string(),
        version.error.clone().unwrap_or_default(),
    ]
}

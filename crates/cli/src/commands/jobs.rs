//! `dunnage jobs`: the service's jobs, or one of them in full.

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use dunnage_types::JobId;

use crate::client::answer::{Job, Jobs as Listed};
use crate::client::{Client, Connection, job_path, show};
use crate::text::{print, table};

/// List jobs, or show one in full
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage jobs                                        the newest ones
  dunnage jobs --state error --kind train --limit 5
  dunnage jobs 6f1c2a34-0000-4000-8000-000000000000   one, with its files and parameters")]
pub(crate) struct Jobs {
    /// Show this job only
    #[arg(value_name = "JOB", conflicts_with_all = ["state", "kind", "limit"])]
    id: Option<JobId>,
    /// Only jobs in this state
    #[arg(long, value_parser = PossibleValuesParser::new(["queued", "running", "done", "error", "cancelled"]))]
    state: Option<String>,
    /// Only jobs of this kind
    #[arg(long, value_parser = PossibleValuesParser::new(["train", "input"]))]
    kind: Option<String>,
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print the answer as it came, in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Jobs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        match self.id {
            Some(id) => self.one(&client, id)?,
            None => self.list(&client)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn one(&self, client: &Client, id: JobId) -> anyhow::Result<()> {
        let answer = client.get(&job_path(id))?;
        print(if self.json { answer.text } else { show::details(&answer.read::<Job>()?) })?;
        Ok(())
    }

    fn list(&self, client: &Client) -> anyhow::Result<()> {
        let mut path = format!("/jobs?limit={}", self.limit);
        path.extend(self.state.iter().map(|state| format!("&state={state}")));
        path.extend(self.kind.iter().map(|kind| format!("&kind={kind}")));
        let answer = client.get(&path)?;
        let jobs = answer.read::<Listed>()?.jobs;
        match jobs.as_slice() {
            _ if self.json => print(answer.text)?,
            [] => eprintln!("no jobs"),
            jobs => print(listed(jobs))?,
        }
        Ok(())
    }
}

fn listed(jobs: &[Job]) -> String {
    let heading = ["job", "kind", "state", "progress", "age", "attempt"].map(str::to_owned);
    table(&std::iter::once(heading).chain(jobs.iter().map(row)).collect::<Vec<_>>())
}

fn row(job: &Job) -> [String; 6] {
    let fraction = job.progress.as_ref().and_then(|progress| progress.fraction);
    [
        job.job_id.to_string(),
        job.kind.to_string(),
        job.state.to_string(),
        fraction.map_or_else(|| "-".to_owned(), show::percent),
        show::age(job.created_at),
        format!("{} of {}", job.attempt, job.max_attempts),
    ]
}

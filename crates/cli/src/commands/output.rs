//! `dunnage output`: asks the model, and prints its vector.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::Connection;
use crate::client::answer::Output as Answered;
use crate::client::request::{JobWishes, Work};
use crate::text::print;

/// Ask the model and print its output vector
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage output walk.csv
  dunnage output file:///data/ada.csv --param user=ada
  dunnage output walk.csv --json | jq .outputVector[0]")]
pub(crate) struct Output {
    #[command(flatten)]
    work: Work,
    /// Print the answer as it came, in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Output {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let answer = self.connection.client()?.post("/output", self.work.into_body(&JobWishes::default())?, None)?;
        let vector = answer.read::<Answered>()?.output_vector;
        if self.json {
            print(answer.text)?;
        } else {
            print(vector.iter().map(Value::to_string).collect::<Vec<_>>().join(" "))?;
            answer.version.iter().for_each(|version| eprintln!("answered by version {version}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

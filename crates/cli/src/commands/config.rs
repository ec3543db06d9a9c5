//! `dunnage config`: prints the settings a server would have, and where each came from.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::cli;
use crate::settings::origin::Origin;
use crate::settings::{Settings, reference, variables};
use crate::text;

/// Show every setting of `serve` and where its value came from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage config
  DUNNAGE_PORT=9000 dunnage config --workers 4
  dunnage config --json | jq .port

It exits with 1 if `serve` would refuse the settings.")]
pub(crate) struct Config {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
    /// Print the reference of all settings instead: how `docs/configuration.md` and `.env.sample` are made
    #[arg(long, hide = true)]
    reference: Option<Reference>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reference {
    Markdown,
    Env,
}

impl Reference {
    fn text(self) -> String {
        match self {
            Self::Markdown => reference::markdown(&cli::command()),
            Self::Env => reference::env_sample(&cli::command()),
        }
    }
}

impl Config {
    pub(crate) fn run(self, mut origins: Vec<Origin>) -> anyhow::Result<ExitCode> {
        if let Some(reference) = self.reference {
            text::print(reference.text().trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        self.fill_in(&mut origins);
        text::print(if self.json { as_json(&origins) } else { as_table(&origins) })?;
        variables::warnings(&cli::command()).iter().for_each(|warning| eprintln!("warning: {warning}"));
        match self.settings.to_config() {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(problems) => {
                eprintln!("error: {problems}");
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// Fills in what the defaults depend on: the script of the folder, its name, and the folder for the data.
    fn fill_in(&self, origins: &mut [Origin]) {
        let Ok(script) = self.settings.find_script() else { return };
        let derived = [
            ("name", self.settings.service_name(&script).to_string()),
            ("script", script.display().to_string()),
            ("data-dir", self.settings.data_dir(&script).display().to_string()),
        ];
        for (name, value) in derived {
            if let Some(origin) = origins.iter_mut().find(|origin| origin.name == name) {
                origin.value = Some(value);
            }
        }
    }
}

fn as_table(origins: &[Origin]) -> String {
    let row = |origin: &Origin| {
        let value = origin.value.clone().unwrap_or_else(|| "-".to_owned());
        [origin.name.clone(), value, origin.source.to_string()]
    };
    let heading = ["setting", "value", "from"].map(str::to_owned);
    text::table(&std::iter::once(heading).chain(origins.iter().map(row)).collect::<Vec<_>>())
}

fn as_json(origins: &[Origin]) -> String {
    let object: Map<String, Value> = origins.iter().map(|origin| (origin.name.clone(), origin.to_json())).collect();
    Value::Object(object).to_string()
}

//! `dunnage config`: prints the settings a server would have, and where each came from.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::cli;
use crate::settings::origin::Origin;
use crate::settings::{Settings, reference};
use crate::text;

/// Show every setting of `serve` and where its value came from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage config
  DUNNAGE_PORT=9000 dunnage config --workers 4
  dunnage config --json | jq .port")]
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

impl Config {
    pub(crate) fn run(self, mut origins: Vec<Origin>) -> anyhow::Result<ExitCode> {
        self.fill_in(&mut origins);
        let printed = match self.reference {
            Some(Reference::Markdown) => reference::markdown(&cli::command()),
            Some(Reference::Env) => reference::env_sample(&cli::command()),
            None if self.json => as_json(&origins),
            None => as_table(&origins),
        };
        text::print(printed.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Fills in what the defaults depend on: the script of the folder, and its name.
    fn fill_in(&self, origins: &mut [Origin]) {
        let Ok(script) = self.settings.find_script() else { return };
        let derived = [("name", self.settings.service_name(&script).to_string()), ("script", script.display().to_string())];
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

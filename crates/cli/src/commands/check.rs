//! `dunnage check`: loads the script once, and tells what it found.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use dunnage_server::{CheckReport, ServeError};
use serde_json::json;

use crate::logging::Log;
use crate::settings::Settings;
use crate::{failure, text};

/// Load a script and say what it has and what is missing
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage check model.py
  dunnage check model.py --python .venv --json

It reads the settings of `dunnage serve` and exits with 1 if the script cannot be loaded
or fails its own `self_test`.")]
pub(crate) struct Check {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.to_check_config()?;
        let _log = Log::start(&self.settings.logs, Arc::clone(&config.lost_log_lines))?;
        let script = config.service.script.display().to_string();
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime's threads")?;
        let report = runtime.block_on(dunnage_server::check(config));
        match (report, self.json) {
            (Ok(report), true) => text::print(as_json(&script, &report))?,
            (Ok(report), false) => text::print(as_text(&script, &report))?,
            (Err(error), true) => return failed_as_json(&script, error),
            (Err(error), false) => return failed(error),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_text(script: &str, report: &CheckReport) -> String {
    let mut rows = vec![row("runtime", &report.runtime), row("functions", report.functions.join(", "))];
    let missing = report.missing.iter().enumerate();
    rows.extend(missing.map(|(at, (name, meaning))| row(if at == 0 { "missing" } else { "" }, format!("{name}: {meaning}"))));
    let printed = report.printed.iter().enumerate();
    rows.extend(printed.map(|(at, line)| row(if at == 0 { "printed" } else { "" }, line)));
    format!("`{script}` loads in {}\n\n{}", text::short_time(report.load_time), text::table(&rows))
}

fn row(name: &str, value: impl Into<String>) -> [String; 2] {
    [name.to_owned(), value.into()]
}

fn as_json(script: &str, report: &CheckReport) -> String {
    let missing: Vec<_> = report.missing.iter().map(|(name, meaning)| json!({"function": name, "meaning": meaning})).collect();
    let report = json!({
        "script": script,
        "loads": true,
        "runtime": report.runtime,
        "functions": report.functions,
        "missing": missing,
        "loadSeconds": report.load_time.as_secs_f64(),
        "printed": report.printed,
    });
    report.to_string()
}

/// The traceback goes before the error, as it does where the script runs by itself.
fn failed(error: ServeError) -> anyhow::Result<ExitCode> {
    if let Some(traceback) = error.traceback() {
        eprintln!("{}\n", traceback.trim_end());
    }
    Err(error.into())
}

fn failed_as_json(script: &str, error: ServeError) -> anyhow::Result<ExitCode> {
    let traceback = error.traceback().map(str::to_owned);
    let report = json!({"script": script, "loads": false, "error": failure::chain(&error.into()), "traceback": traceback});
    text::print(report)?;
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_report_says_what_is_missing_and_what_that_means() {
        let report = CheckReport {
            runtime: "dunnage-lua 0.1.0 (LuaJIT 2.1)".to_owned(),
            functions: vec!["train", "output"],
            missing: vec![("input", "POST /input answers 501"), ("output_batch", "requests are answered one at a time")],
            load_time: Duration::from_millis(87),
            printed: vec!["hello".to_owned(), "again".to_owned()],
        };
        let expected = "\
`model.lua` loads in 87ms

runtime    dunnage-lua 0.1.0 (LuaJIT 2.1)
functions  train, output
missing    input: POST /input answers 501
           output_batch: requests are answered one at a time
printed    hello
           again";
        assert_eq!(as_text("model.lua", &report), expected);
    }
}

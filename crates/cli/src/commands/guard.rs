//! `dunnage guard`: what `serve` starts beside itself, so that nothing a script has started outlives a server that is killed.

use std::process::ExitCode;

use clap::Args;

/// Waits until the server is gone, and ends what its scripts have left; `serve` starts it by itself
#[derive(Debug, Args)]
pub(crate) struct Guard {}

impl Guard {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        dunnage_server::stand_guard(std::io::stdin())?;
        Ok(ExitCode::SUCCESS)
    }
}

//! `dunnage completions`: what a shell needs to complete our command line.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::cli;

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage completions bash > /etc/bash_completion.d/dunnage
  dunnage completions zsh > ~/.zfunc/_dunnage
  dunnage completions fish > ~/.config/fish/completions/dunnage.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        // Through memory, because the generator panics where standard output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli::command(), "dunnage", &mut script);
        std::io::stdout().lock().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

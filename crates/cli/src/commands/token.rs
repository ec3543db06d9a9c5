//! `dunnage token`: makes a token.

use std::process::ExitCode;

use clap::Args;
use dunnage_server::{Scopes, random_token};

use crate::text::print;

/// Make a random token for `--token-file` or DUNNAGE_TOKENS
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dunnage token infer >> tokens                       a line that allows asking the model
  dunnage token infer,train >> tokens                 ... and teaching it
  dunnage token                                       the token alone

The scopes are infer, train, metrics and admin; docs/security.md has what each allows. Nobody else may read
the file: make it with `umask 077`.")]
pub(crate) struct Token {
    /// What the token is to allow, with commas between; without, the token is printed alone
    #[arg(value_name = "SCOPES")]
    scopes: Option<Scopes>,
}

impl Token {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let token = random_token();
        print(self.scopes.map_or(token.clone(), |scopes| format!("{scopes} {token}")))?;
        Ok(ExitCode::SUCCESS)
    }
}

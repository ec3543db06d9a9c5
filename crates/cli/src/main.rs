//! The `dunnage` command: serves a script, and talks to a service that does.
//!
//! [`cli`] lists the commands, [`commands`] has a file for each, [`settings`] is what `serve` can be told, and [`client`] speaks
//! to a running service.

mod cli;
mod client;
mod commands;
mod failure;
mod logging;
mod settings;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = cli::Invocation::parse(std::env::args_os()).and_then(cli::Invocation::run);
    outcome.unwrap_or_else(|error| failure::report(&error))
}

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

use mimalloc::MiMalloc;

/// What one thread allocates another one frees, with every answer. The C library's allocator takes a lock for that, which costs a
/// tenth of a busy server's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let outcome = cli::Invocation::parse(std::env::args_os()).and_then(cli::Invocation::run);
    outcome.unwrap_or_else(|error| failure::report(&error))
}

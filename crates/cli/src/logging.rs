//! The log of the server, on standard error.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli;
use crate::settings::{LogFormat, LogSettings, variables};

/// What the HTTP library says of its own threads, and, as errors, of requests it cannot read: anybody could fill the log with
/// those. A filter that names the library is stronger.
const QUIET: &str = "actix_server=warn,actix_http=off";

/// Sends everything logged from now on to standard error, beginning with variables that have no effect. To be called once.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter(&settings.log_level)).context("`--log-level` cannot be read")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if is_pretty(settings.log_format) {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).finish().try_init()
    } else {
        builder.json().flatten_event(true).finish().try_init()
    }
    .context("the log is already set up")?;
    variables::warnings(&cli::command()).into_iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(())
}

fn filter(asked: &str) -> String {
    if asked.contains("actix") { asked.to_owned() } else { format!("{QUIET},{asked}") }
}

/// Whether people read the log.
pub(crate) fn is_pretty(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_library_is_quiet_unless_it_is_named() {
        assert_eq!(filter("info"), "actix_server=warn,actix_http=off,info");
        assert_eq!(filter("info,actix_http=debug"), "info,actix_http=debug");
    }
}

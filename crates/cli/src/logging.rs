//! The log of the server, on standard error.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{LogFormat, LogSettings};

/// What the HTTP library says of its own threads; a filter that names it is stronger.
const QUIET: &str = "actix_server=warn";

/// Sends everything logged from now on to standard error. To be called once.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{}", settings.log_level)).context("`--log-level` cannot be read")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if is_pretty(settings.log_format) {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).finish().try_init()
    } else {
        builder.json().flatten_event(true).finish().try_init()
    }
    .context("the log is already set up")
}

/// Whether people read the log.
pub(crate) fn is_pretty(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    }
}

//! The log of the server, on standard error.

mod outlet;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
pub(crate) use outlet::Outlet;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli;
use crate::settings::{LogFormat, LogSettings, variables};

/// What the HTTP library says, as errors, of requests it cannot read: anybody could fill the log with those. A filter that names the library is stronger.
const QUIET: &str = "actix_http=off";
/// The libraries for S3 tell, at lower levels, how they sign, with credentials. They speak up only for who names them.
const SECRETIVE: &str = "aws=warn";

/// How long the end of the process waits for its last lines to be taken.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process. Dropping it waits a moment until its last lines have been taken.
pub(crate) struct Log(Outlet);

impl Log {
    /// Sends everything logged from now on to standard error, beginning with variables that have no effect. To be called once. Lines
    /// that could not be written, or were not taken in time, are added to `lost`.
    pub(crate) fn start(settings: &LogSettings, lost: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let filter = EnvFilter::builder().parse(filter(&settings.log_level)).context("`--log-level` cannot be read")?;
        let stderr = io::stderr().as_fd().try_clone_to_owned().context("standard error cannot be used")?;
        let outlet = Outlet::start(File::from(stderr), lost).context("cannot start the thread that writes the log")?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(outlet.clone());
        // What cannot be written is dropped: to tell of that on standard error would end whoever wants to log.
        let builder = builder.log_internal_errors(false);
        if is_pretty(settings.log_format) {
            builder.with_ansi(io::stderr().is_terminal()).with_target(false).finish().try_init()
        } else {
            builder.json().flatten_event(true).finish().try_init()
        }
        .context("the log is already set up")?;
        variables::warnings(&cli::command()).into_iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(Self(outlet))
    }

    /// Where its lines wait, for an end of the process that drops nothing.
    pub(crate) fn outlet(&self) -> Outlet {
        self.0.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush_within(LAST_PATIENCE);
    }
}

fn filter(asked: &str) -> String {
    let unnamed = [("actix", QUIET), ("aws", SECRETIVE)].into_iter().filter(|(name, _)| !asked.contains(name));
    unnamed.map(|(_, directives)| directives).chain([asked]).collect::<Vec<_>>().join(",")
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
    fn libraries_are_quiet_unless_they_are_named() {
        assert_eq!(filter("debug"), "actix_http=off,aws=warn,debug");
        assert_eq!(filter("info,actix_http=debug"), "aws=warn,info,actix_http=debug");
        assert_eq!(filter("aws_sdk_s3=trace"), "actix_http=off,aws_sdk_s3=trace");
    }
}

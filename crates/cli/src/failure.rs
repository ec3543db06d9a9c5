//! How failures end the process.

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use crate::settings::problems::Problems;

/// The exit code for a command line or settings that make no sense, as clap has it.
const USAGE: u8 = 2;

/// What was asked for makes no sense; the process exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints the error and what caused it on standard error, and returns the exit code it calls for.
///
/// A closed standard output is no failure: whoever read it, such as `head`, has had enough.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", chain(error));
    if error.is::<Usage>() || error.is::<Problems>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// The error and its causes, one a line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |mut text, cause| {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n  caused by: {cause}");
        text
    })
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_follow_line_by_line() {
        let error = Err::<(), _>(io::Error::other("disk full")).context("cannot write `a`").unwrap_err();
        assert_eq!(chain(&error), "cannot write `a`\n  caused by: disk full");
    }
}

//! How a worker ended, in words that help.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Why a worker is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this code.
    Code(i32),
    /// A signal ended it, from inside (a crash) or outside (the system ran out of memory).
    Signal(i32),
    /// We killed it: its call went on past its deadline.
    DeadlinePassed,
    /// We killed it: it broke the protocol.
    Protocol(String),
    /// We ended it: its call was cancelled and did not stop by itself in time, or must not go on.
    Interrupted,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Code(-1),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exited with code {code}"),
            Self::Signal(signal) => match signal_meaning(*signal) {
                Some(meaning) => write!(formatter, "was ended by signal {signal} ({meaning})"),
                None => write!(formatter, "was ended by signal {signal}"),
            },
            Self::DeadlinePassed => formatter.write_str("was killed because its deadline passed"),
            Self::Protocol(detail) => write!(formatter, "was killed because it broke the protocol: {detail}"),
            Self::Interrupted => formatter.write_str("was ended because its call was no longer wanted"),
        }
    }
}

fn signal_meaning(signal: i32) -> Option<&'static str> {
    Some(match signal {
        4 => "illegal instruction",
        6 => "abort",
        7 => "bus error",
        8 => "arithmetic error",
        9 => "killed, perhaps because memory ran out",
        11 => "segmentation fault",
        15 => "terminated",
        _ => return None,
    })
}

impl Lost {
    /// The last line it wrote to standard error, to be put behind how it ended; empty if there was none. For operators: it
    /// may hold anything.
    pub(crate) fn last_words(&self) -> String {
        self.last_lines.last().map_or_else(String::new, |line| format!(": {line}"))
    }
}

/// A worker was lost during a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker {exit}")]
pub struct Lost {
    /// How it ended.
    pub exit: Exit,
    /// The last lines it wrote to standard error.
    pub last_lines: Vec<String>,
}

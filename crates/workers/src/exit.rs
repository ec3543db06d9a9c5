//! How a worker ended, in words that help.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Why a worker is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this code.
    Code(i32),
    /// A signal ended it, from inside (a crash) or outside.
    Signal(i32),
    /// The system killed it to get memory back.
    OutOfMemory,
    /// We killed it: its device has failed in a way that outlives the call, so that what it would answer next could be wrong.
    Device(String),
    /// We killed it: its call went on past its deadline.
    DeadlinePassed,
    /// We killed it: it broke the protocol.
    Protocol(String),
    /// We ended it: its call was cancelled and did not stop by itself in time, or must not go on.
    Interrupted,
}

/// An [`Exit`] in one stable word, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each word's meaning stands in docs/workers.md, checked by a test")]
pub enum Reason {
    Exit,
    Abort,
    ArithmeticError,
    BusError,
    IllegalInstruction,
    Segfault,
    Killed,
    Terminated,
    Signal,
    OutOfMemory,
    DeviceFailed,
    Timeout,
    Protocol,
    Interrupted,
    LoadFailed,
}

impl Reason {
    /// Every word.
    pub const ALL: [Self; 15] = [
        Self::Exit,
        Self::Abort,
        Self::ArithmeticError,
        Self::BusError,
        Self::IllegalInstruction,
        Self::Segfault,
        Self::Killed,
        Self::Terminated,
        Self::Signal,
        Self::OutOfMemory,
        Self::DeviceFailed,
        Self::Timeout,
        Self::Protocol,
        Self::Interrupted,
        Self::LoadFailed,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Abort => "abort",
            Self::ArithmeticError => "arithmetic_error",
            Self::BusError => "bus_error",
            Self::IllegalInstruction => "illegal_instruction",
            Self::Segfault => "segfault",
            Self::Killed => "killed",
            Self::Terminated => "terminated",
            Self::Signal => "signal",
            Self::OutOfMemory => "out_of_memory",
            Self::DeviceFailed => "device_failed",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Interrupted => "interrupted",
            Self::LoadFailed => "load_failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Exit {
    /// The word for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Code(_) => Reason::Exit,
            Self::Signal(signal) => match signal {
                4 => Reason::IllegalInstruction,
                6 => Reason::Abort,
                7 => Reason::BusError,
                8 => Reason::ArithmeticError,
                9 => Reason::Killed,
                11 => Reason::Segfault,
                15 => Reason::Terminated,
                _ => Reason::Signal,
            },
            Self::OutOfMemory => Reason::OutOfMemory,
            Self::Device(_) => Reason::DeviceFailed,
            Self::DeadlinePassed => Reason::Timeout,
            Self::Protocol(_) => Reason::Protocol,
            Self::Interrupted => Reason::Interrupted,
        }
    }
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
            Self::OutOfMemory => formatter.write_str("was killed by the system because memory ran out"),
            Self::Device(error) => write!(formatter, "was replaced because its device failed: {error}"),
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
        9 => "killed from outside, perhaps because memory ran out",
        11 => "segmentation fault",
        15 => "terminated",
        _ => return None,
    })
}

/// A worker was lost during a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker {exit}")]
pub struct Lost {
    /// How it ended.
    pub exit: Exit,
    /// The last lines it wrote to standard error, each of bounded length.
    pub last_lines: Vec<String>,
}

impl Lost {
    /// The last line it wrote to standard error, to be put behind how it ended; empty if there was none. For operators: it
    /// may hold anything.
    pub(crate) fn last_words(&self) -> String {
        self.last_lines.last().map_or_else(String::new, |line| format!(": {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = include_str!("../../../docs/workers.md");

    #[test]
    fn every_reason_is_documented() {
        for reason in Reason::ALL {
            assert!(DOCUMENTED.contains(&format!("| `{reason}` |")), "docs/workers.md lacks `{reason}`");
        }
    }

    #[test]
    fn crashes_are_told_apart_by_their_signals() {
        let words = [4, 6, 7, 8, 9, 11, 15, 31].map(|signal| Exit::from(ExitStatus::from_raw(signal)).reason().as_str());
        let expected =
            ["illegal_instruction", "abort", "bus_error", "arithmetic_error", "killed", "segfault", "terminated", "signal"];
        assert_eq!(words, expected);
        assert_eq!(Exit::from(ExitStatus::from_raw(3 << 8)), Exit::Code(3));
    }
}

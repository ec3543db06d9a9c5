//! Everything found wrong with what was asked for, told at once.

use std::fmt;

/// Problems with the settings: the user's to mend, so the process exits with 2.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problems {
    /// What has them: `settings`, or a file's name.
    pub(crate) subject: String,
    /// At least one sentence.
    pub(crate) found: Vec<String>,
}

impl Problems {
    /// Fails if there is any.
    pub(crate) fn none_in(subject: impl Into<String>, found: Vec<String>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self { subject: subject.into(), found }) }
    }

    /// The only problem.
    pub(crate) fn one(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { subject: subject.into(), found: vec![problem.into()] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found.as_slice() {
            [problem] => write!(formatter, "{}: {problem}", self.subject),
            found => {
                write!(formatter, "{}: {} problems", self.subject, found.len())?;
                found.iter().try_for_each(|problem| write!(formatter, "\n  - {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

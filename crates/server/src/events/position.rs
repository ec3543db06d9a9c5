//! The ids of events, by which a stream is taken up again.

use std::fmt;
use std::str::FromStr;

use dunnage_types::JobState;

/// How far a client has come. As an event's id: `17:running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last line of the log it has; zero before the first.
    pub(crate) line: u64,
    /// The state it was last told.
    pub(crate) state: JobState,
}

impl Position {
    /// Behind a line, whatever the state; behind the line zero is the beginning. Lines are written while a job runs.
    pub(crate) fn behind(line: u64) -> Self {
        Self { line, state: JobState::Running }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.state)
    }
}

/// The text is no id of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id of an event, such as `17:running`")]
pub(crate) struct InvalidPosition(String);

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parts = text.split_once(':').and_then(|(line, state)| Some((line.parse().ok()?, state.parse().ok()?)));
        let position = parts.map(|(line, state)| Self { line, state });
        // Numbers have other forms, which are none of ours.
        position.filter(|position| position.to_string() == text).ok_or_else(|| InvalidPosition(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_from_its_text() {
        for state in JobState::ALL {
            for line in [0, 17, u64::MAX] {
                let position = Position { line, state };
                assert_eq!(position.to_string().parse(), Ok(position));
            }
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let wrong = ["", ":", "17", "17:", ":running", "+17:running", "017:running", "-1:done", "17:lost", "17:done:", "17:done\n"];
        for text in wrong.into_iter().chain(["18446744073709551616:done"]) {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition(text.to_owned())));
        }
    }
}

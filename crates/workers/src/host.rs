//! What a worker may ask of its server, and what it tells it.

use async_trait::async_trait;
use dunnage_protocol::{Answer, AskError, Operation};
use dunnage_types::{LogLevel, LogSource, Progress};

/// The server's side of one call, or of the time between calls.
#[async_trait]
pub trait Host: Send + Sync {
    /// Answers a question of the script, which waits meanwhile.
    ///
    /// # Errors
    ///
    /// An [`AskError`], which the script sees as an exception.
    async fn answer(&self, operation: Operation) -> Result<Answer, AskError>;

    /// Notes how far the script has come.
    fn progress(&self, progress: Progress);

    /// Takes a line that was logged or printed.
    fn line(&self, line: Line);
}

/// One line from a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it came from.
    pub source: LogSource,
    /// How serious it is.
    pub level: LogLevel,
    /// The text, without its line end.
    pub message: String,
}

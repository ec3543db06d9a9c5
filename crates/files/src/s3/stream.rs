//! The body of an answer, read with a limit to patience.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::writer::PartWriter;
use crate::FileProblem;

/// What must arrive a second, on average over the time that a stall may take.
const LEAST_BYTES_PER_SECOND: f64 = 1024.0;

/// A body that is on its way.
#[derive(Debug)]
pub(super) struct Stream {
    body: ByteStream,
    /// What arrived but has not been taken.
    rest: Bytes,
    stall: Duration,
    /// How long was waited for `arrived` bytes; starts anew whenever it reaches `stall`. Time that passes elsewhere, with the disk,
    /// does not count.
    waited: Duration,
    arrived: u64,
}

impl Stream {
    /// Reads `body`, and waits for its bytes no longer than `stall`.
    pub(super) fn new(body: ByteStream, stall: Duration) -> Self {
        Self { body, rest: Bytes::new(), stall, waited: Duration::ZERO, arrived: 0 }
    }

    /// Moves all that is missing into `writer`; what follows stays for the next.
    ///
    /// # Errors
    ///
    /// [`FileProblem::Truncated`] and [`FileProblem::Stalled`], after which another stream may bring the rest, and
    /// [`FileProblem::CacheDisk`].
    pub(super) async fn fill(&mut self, writer: &mut PartWriter) -> Result<(), FileProblem> {
        while !writer.missing().is_empty() {
            if self.rest.is_empty() {
                self.rest = self.next().await?;
            }
            let taken = writer.push(&self.rest).await?;
            self.rest = self.rest.split_off(taken);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Bytes, FileProblem> {
        let start = Instant::now();
        let chunk = timeout(self.stall, self.body.next()).await.map_err(|_| FileProblem::Stalled)?;
        self.waited += start.elapsed();
        let chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer of S3 broke off");
                return Err(FileProblem::Truncated);
            }
            None => return Err(FileProblem::Truncated),
        };
        self.arrived += chunk.len() as u64;
        self.check_rate()?;
        Ok(chunk)
    }

    fn check_rate(&mut self) -> Result<(), FileProblem> {
        if self.waited < self.stall {
            return Ok(());
        }
        if (self.arrived as f64) < LEAST_BYTES_PER_SECOND * self.waited.as_secs_f64() {
            return Err(FileProblem::Stalled);
        }
        (self.waited, self.arrived) = (Duration::ZERO, 0);
        Ok(())
    }
}

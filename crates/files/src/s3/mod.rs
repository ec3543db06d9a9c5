//! S3: objects that are fetched for the cache, and the service's own place in a bucket.
//!
//! [`S3`] is the handle. As a [`Source`](crate::source::Source) it fetches objects, in parallel parts when they are large; a
//! [`Bucket`] reads and writes below a prefix. Every request goes through [`S3::send`],
//! which alone tries again, looks for a bucket's region and renews credentials.

mod ask;
mod breaker;
mod bucket;
mod budget;
mod checksum;
mod connection;
mod download;
mod failure;
mod listing;
mod parts;
mod retry;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod unanswered;
mod upload;
mod writer;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

pub use bucket::Bucket;
pub use listing::Listed;
pub use settings::S3Settings;

use crate::FileProblem;
use breaker::{Breaker, Pass};
use budget::Budget;
use connection::Connection;
use failure::Failure;
use retry::Retries;

/// S3, as this server reaches it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: S3Settings,
    connection: Connection,
    breaker: Breaker,
    budget: Budget,
}

/// Why a request got no object, or no leave.
#[derive(Debug)]
enum Refusal {
    /// What the client holds is what S3 holds.
    Unchanged,
    /// The object is not the one any more that the request was made for.
    Changed,
    /// It failed for good.
    Failed(FileProblem),
}

impl S3 {
    /// Will reach S3 so. Nothing is looked up or connected before the first request.
    #[must_use]
    pub fn connect(settings: S3Settings) -> Self {
        Self::connect_with(settings, None)
    }

    fn connect_with(settings: S3Settings, credentials: Option<SharedCredentialsProvider>) -> Self {
        let budget = Budget::new(settings.in_flight_bytes.max(settings.part_bytes));
        let connection = Connection::new(settings.clone(), credentials);
        Self(Arc::new(Shared { settings, connection, breaker: Breaker::default(), budget }))
    }

    /// For how long S3 is not asked because it failed several times in a row.
    #[must_use]
    pub fn breaker_open(&self) -> Option<Duration> {
        self.0.breaker.open_for()
    }

    fn admit(&self) -> Result<Pass, FileProblem> {
        self.0.breaker.admit().map_err(FileProblem::BreakerOpen)
    }

    /// One request to a bucket with all that is done about its failures: a few retries if they may help, once more in the bucket's
    /// own region, once more with renewed credentials or another clock.
    async fn send<T, E, F>(&self, bucket: &str, request: impl Fn(Client) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let mut retries = Retries::of_request(self.0.settings.retries);
        let (mut moved, mut renewed) = (false, false);
        loop {
            let connected = self.0.connection.client(bucket).await;
            let error = match request(connected.client).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match Failure::of(&error) {
                Failure::Unchanged => return Err(Refusal::Unchanged),
                Failure::Changed => return Err(Refusal::Changed),
                Failure::Final(problem) => return Err(Refusal::Failed(problem)),
                Failure::Elsewhere(region) if moved => return Err(Refusal::Failed(FileProblem::WrongRegion(region))),
                Failure::Elsewhere(region) => {
                    moved = true;
                    self.0.connection.remember(bucket, &region).await;
                }
                Failure::Expired(problem) | Failure::Skewed(problem) if renewed => return Err(Refusal::Failed(problem)),
                Failure::Skewed(_) => renewed = true,
                Failure::Expired(_) => {
                    renewed = true;
                    self.0.connection.renew(connected.generation).await;
                }
                Failure::Passing(problem, asked_for) => {
                    if !retries.wait(asked_for).await {
                        return Err(Refusal::Failed(problem));
                    }
                }
            }
        }
    }

    /// [`send`](Self::send) for requests that stand alone: the breaker is asked first and told after.
    async fn send_alone<T, E, F>(&self, bucket: &str, request: impl Fn(Client) -> F) -> Result<T, FileProblem>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let pass = self.admit()?;
        let outcome = self.send(bucket, request).await.map_err(FileProblem::from);
        tell(pass, outcome.as_ref().err());
        outcome
    }
}

impl From<Refusal> for FileProblem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Nobody asks for these answers where they become problems; a server that gives them anyway is out of order.
            Refusal::Unchanged => Self::Unavailable("it answers that nothing has changed, which was not the question".to_owned()),
            Refusal::Changed => Self::Changed,
            Refusal::Failed(problem) => problem,
        }
    }
}

/// Tells the breaker how it went. The server's own disk and everything that S3 says of one object count as answers.
fn tell(pass: Pass, problem: Option<&FileProblem>) {
    match problem {
        Some(
            FileProblem::Throttled(_)
            | FileProblem::Stalled
            | FileProblem::Unavailable(_)
            | FileProblem::Truncated
            | FileProblem::BreakerOpen(_),
        ) => pass.failed(),
        _ => pass.succeeded(),
    }
}

//! The server, as the script of a job sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use dunnage_protocol::{Answer, AskError, Operation};
use dunnage_store::Lease;
use dunnage_types::{JobKind, Progress};
use dunnage_workers::{Host, Line};
use tokio::sync::mpsc;

use super::recorder::Record;
use crate::app::App;
use crate::host::{answer_state, not_allowed};

/// Answers one attempt's questions, fenced by its lease, and has its lines and progress recorded.
pub(crate) struct JobHost {
    app: Arc<App>,
    lease: Lease,
    kind: JobKind,
    records: mpsc::UnboundedSender<Record>,
    made_artifact: AtomicBool,
}

impl JobHost {
    pub(crate) fn new(app: Arc<App>, lease: Lease, kind: JobKind, records: mpsc::UnboundedSender<Record>) -> Self {
        Self { app, lease, kind, records, made_artifact: AtomicBool::new(false) }
    }

    /// Whether the script has asked for a new artifact.
    pub(crate) fn made_artifact(&self) -> bool {
        self.made_artifact.load(Ordering::SeqCst)
    }

    fn new_artifact(&self) -> Result<Answer, AskError> {
        if self.kind != JobKind::Train {
            return Err(not_allowed("only `train` can make an artifact"));
        }
        let folder = self.app.artifacts.begin(self.lease).map_err(|error| {
            tracing::error!(%error, job = %self.lease.job, "a folder for an artifact cannot be made");
            AskError { code: "unavailable".to_owned(), message: format!("the folder cannot be made: {error}") }
        })?;
        self.made_artifact.store(true, Ordering::SeqCst);
        Ok(Answer::Path(folder))
    }
}

#[async_trait]
impl Host for JobHost {
    async fn answer(&self, operation: Operation) -> Result<Answer, AskError> {
        match operation {
            Operation::NewArtifact => self.new_artifact(),
            operation => answer_state(&self.app.state, Some(self.lease), operation).await,
        }
    }

    fn progress(&self, progress: Progress) {
        // The recorder ends after every sender; if it has failed it has said so.
        let _ = self.records.send(Record::Progress(progress));
    }

    fn line(&self, line: Line) {
        let _ = self.records.send(Record::Line(line));
    }
}

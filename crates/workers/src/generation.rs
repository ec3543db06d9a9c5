//! The workers of one version: kept on standby, serving, or retired, all together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dunnage_protocol::{Artifact, Functions};
use dunnage_types::Version;
use tokio::sync::watch;

use crate::exit::{Lost, Reason};

/// What the workers of a generation do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Loaded, but taking no requests.
    Standby,
    /// Taking requests.
    Serving,
    /// Finishing what they have, then ending.
    Retired,
}

/// Why there is no worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// In a word that anybody may hear.
    pub reason: Reason,
    /// In full. For operators: it may hold paths and what the script has printed last.
    pub detail: String,
}

/// The state that the slots of one generation share.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) artifact: Option<Artifact>,
    phase: watch::Sender<Phase>,
    ready: AtomicUsize,
    report: watch::Sender<Report>,
    last_error: Mutex<Option<Unavailable>>,
    last_loss: Mutex<Option<String>>,
}

/// How the first start of a generation's workers went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// The script's functions, once a worker has loaded it.
    pub(crate) functions: Option<Functions>,
    /// How many workers have been loaded so far, those lost since included.
    pub(crate) loaded: usize,
    /// Why the newest start failed, if it did.
    pub(crate) failure: Option<String>,
}

/// Workers that have loaded a version and wait to take over. Dropping it lets them go.
#[derive(Debug)]
pub struct Standby {
    pub(crate) generation: Arc<Generation>,
    pub(crate) taken_over: bool,
}

impl Drop for Standby {
    fn drop(&mut self) {
        if !self.taken_over {
            self.generation.enter(Phase::Retired);
        }
    }
}

/// A loaded worker, as far as its generation counts them.
#[derive(Debug)]
pub(crate) struct Ready(Arc<Generation>);

impl Drop for Ready {
    fn drop(&mut self) {
        self.0.ready.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Generation {
    pub(crate) fn new(artifact: Option<Artifact>, phase: Phase) -> Arc<Self> {
        Arc::new(Self {
            artifact,
            phase: watch::Sender::new(phase),
            ready: AtomicUsize::new(0),
            report: watch::Sender::new(Report::default()),
            last_error: Mutex::new(None),
            last_loss: Mutex::new(None),
        })
    }

    pub(crate) fn version(&self) -> Option<Version> {
        self.artifact.as_ref().and_then(|artifact| Version::new(artifact.version))
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(crate) fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn reports(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.load(Ordering::SeqCst)
    }

    pub(crate) fn functions(&self) -> Option<Functions> {
        self.report.borrow().functions
    }

    /// Why the newest start failed, unless a worker has been loaded since.
    pub(crate) fn last_error(&self) -> Option<Unavailable> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the worker ended that was lost last.
    pub(crate) fn last_loss(&self) -> Option<String> {
        self.last_loss.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a worker as ready until the value returned is dropped.
    pub(crate) fn worker_loaded(self: Arc<Self>, functions: Functions) -> Ready {
        self.ready.fetch_add(1, Ordering::SeqCst);
        self.set_last_error(None);
        self.report.send_modify(|report| {
            report.functions = Some(functions);
            report.loaded += 1;
            report.failure = None;
        });
        Ready(self)
    }

    pub(crate) fn worker_failed(&self, error: Unavailable) {
        self.report.send_modify(|report| report.failure = Some(error.detail.clone()));
        self.set_last_error(Some(error));
    }

    pub(crate) fn note_loss(&self, lost: &Lost) {
        *self.last_loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(lost.to_string());
    }

    fn set_last_error(&self, error: Option<Unavailable>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

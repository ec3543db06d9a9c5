//! What operators and scalers watch of connections.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::admission::Admission;
use crate::metrics::{Register, as_gauge};

/// The metrics of connections. Cheap to clone; counting costs one addition.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Counters>);

struct Counters {
    open: IntGauge,
    limit: IntGauge,
    ended: IntCounterVec,
    received: IntCounter,
    sent: IntCounter,
}

/// Why the server ended a connection, where the client would have gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// There was no room for it.
    NoRoom,
    /// The handshake of TLS failed or took too long.
    Handshake,
    /// The head of a request took too long, was too long, or could not be read.
    Head,
    /// The client took nothing of its answer, or too little.
    Stalled,
}

impl Cut {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Stalled => "stalled",
        }
    }
}

impl Traffic {
    /// Makes and registers them.
    pub(crate) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| register.add(IntCounter::new(name, help)?);
        Ok(Self(Arc::new(Counters {
            open: register.gauge("http_connections", "Connections that are open")?,
            limit: register.gauge("http_connections_limit", "Connections that may be open at once")?,
            ended: register.counters(
                "http_connections_cut_total",
                "Connections that the server ended before their clients did, by reason: no_room, handshake, head or stalled",
                &["reason"],
            )?,
            received: counter("http_received_bytes_total", "Bytes that clients have sent, heads included")?,
            sent: counter("http_sent_bytes_total", "Bytes that clients have taken, heads included")?,
        })))
    }

    /// Brings the gauges up to date.
    pub(crate) fn take(&self, admission: &Admission) {
        self.0.open.set(as_gauge(admission.open() as u64));
        self.0.limit.set(as_gauge(admission.max() as u64));
    }

    /// How many bytes clients have sent and taken so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.0.received.get(), self.0.sent.get())
    }

    pub(super) fn received(&self, bytes: usize) {
        self.0.received.inc_by(bytes as u64);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.0.sent.inc_by(bytes as u64);
    }

    pub(super) fn cut(&self, why: Cut) {
        self.0.ended.with_label_values(&[why.as_str()]).inc();
    }
}

//! What a faulty server does wrong.

use tokio::sync::watch;

use super::object::Object;

/// What goes wrong with one request.
///
/// Places and lengths are counted in the body of the answer, from its first byte, whatever range was asked for.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing: it is answered as S3 would. For lists in which a later request is the one that goes wrong.
    Pass,
    /// An error as S3 writes it, with its code, such as `SlowDown`; the request has no effect.
    Status {
        /// The status.
        status: u16,
        /// What S3 calls it.
        code: String,
    },
    /// A page with this status that no S3 wrote, as proxies answer; the request has no effect.
    Html(u16),
    /// A header of the answer is this, whatever it was.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The body ends after so many bytes, whatever its length was said to be, and the connection with it. A body of fewer bytes
    /// comes whole.
    Cut {
        /// How many come.
        after: u64,
        /// How the connection ends.
        with: End,
    },
    /// No more than so many bytes of the body are there, and its length is said to be that; everything else, such as the checksum
    /// or the place in the whole object, speaks of all. The connection ends in good order.
    Short {
        /// How many come.
        bytes: u64,
    },
    /// After so many bytes of the body nothing follows, and the connection stays.
    Stall {
        /// How many come.
        after: u64,
    },
    /// The body comes slowly, in pieces as small as that needs.
    Drip {
        /// How slowly.
        bytes_per_second: u64,
    },
    /// The length of the body is not said: it comes in chunks.
    NoLength,
    /// A bit of the body is another, in the byte at this place, or in the last.
    Flip {
        /// Which byte.
        at: u64,
    },
    /// Before the request is answered, somebody replaces its object by this.
    Replace(Object),
    /// No answer comes, and the connection stays; the request has no effect.
    NeverAnswer,
    /// The connection ends instead of an answer; the request has no effect.
    HangUp(End),
    /// The request has its effect, and then the connection ends instead of an answer.
    LoseAnswer(End),
    /// The answer has to wait until the gate is opened; what it says is what holds then.
    Hold(Gate),
    /// Several at once.
    Together(Vec<Fault>),
}

/// How a connection ends that should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Closed, in good order.
    Fin,
    /// Reset. What the client has not taken by then may be lost, so that it may see fewer bytes than were sent.
    Rst,
}

impl Fault {
    /// An error as S3 writes it.
    #[must_use]
    pub fn status(status: u16, code: &str) -> Self {
        Self::Status { status, code: code.to_owned() }
    }

    /// S3 has too much to do: 503.
    #[must_use]
    pub fn slow_down() -> Self {
        Self::status(503, "SlowDown")
    }

    /// S3 has failed: 500.
    #[must_use]
    pub fn internal_error() -> Self {
        Self::status(500, "InternalError")
    }

    /// S3 says to look elsewhere; `status` is 301 or 307.
    #[must_use]
    pub fn redirect(status: u16, to: &str) -> Self {
        let code = if status == 301 { "PermanentRedirect" } else { "TemporaryRedirect" };
        Self::status(status, code).and(Self::header("Location", to))
    }

    /// A header of the answer is this.
    #[must_use]
    pub fn header(name: &str, value: &str) -> Self {
        Self::Header { name: name.to_owned(), value: value.to_owned() }
    }

    /// This and another at once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::Together(vec![self, other])
    }

    /// The faults that this one is made of.
    pub(super) fn flatten(self) -> Vec<Self> {
        match self {
            Self::Together(faults) => faults.into_iter().flat_map(Self::flatten).collect(),
            one => vec![one],
        }
    }
}

/// Holds requests back until a test opens it; it stays open. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Closed.
    #[must_use]
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        // The sender is in `self`, so that it cannot be gone.
        let _ = self.0.subscribe().wait_for(|is_open| *is_open).await;
    }
}

//! How deep a caller may look.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, web};
use dunnage_types::{LogLevel, LogLine, LogSource};

use crate::app::App;

/// How much of the inside of a service its answers may show. More is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    /// Codes and our own sentences, and what scripts say in their answers, progress and errors. For tokens without `train`, and for
    /// those nobody knows, unless they are on this machine.
    Surface,
    /// Also why scripts and versions could not be loaded, with the last line a worker has printed, and whole logs of jobs. For this
    /// machine, where there are no tokens.
    Reasons,
    /// Also tracebacks. For tokens with `train`.
    Tracebacks,
}

impl Sight {
    /// That of the caller, as the middleware has found it.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        let found = request.extensions().get::<Self>().copied();
        let usual = || request.app_data::<web::Data<App>>().map(|app| app.access.usual_sight());
        found.or_else(usual).unwrap_or(Self::Surface)
    }

    /// Whether a line of a job's log may be seen: the server's own about failures repeat tracebacks.
    pub(crate) fn shows(self, line: &LogLine) -> bool {
        self >= Self::Reasons || line.source != LogSource::Server || line.level != LogLevel::Error
    }
}

impl FromRequest for Sight {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}

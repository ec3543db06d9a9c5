//! Looks hosts up, and refuses addresses that callbacks may not go to.
//!
//! The check is made on the very addresses that are connected to, so that a name which changes its mind between a check and the
//! connection gains nothing. Hosts that are addresses already, in whatever notation, pass through here too.

use std::fmt;

use ureq::config::Config;
use ureq::http::Uri;
// The library may change this part in a minor version; the lock file decides when that reaches us.
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::address;

/// The system's resolver, behind the check.
#[derive(Debug)]
pub(super) struct Guarded {
    system: DefaultResolver,
    allow_private: bool,
}

impl Guarded {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { system: DefaultResolver::default(), allow_private }
    }
}

impl Resolver for Guarded {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.system.resolve(uri, config, timeout)?;
        // One such address is enough: a public name has no business with it.
        let refusal = found.iter().find_map(|found| address::refusal(found.ip(), self.allow_private));
        refusal.map_or(Ok(found), |kind| Err(ureq::Error::Other(Box::new(Refused { kind }))))
    }
}

/// The host leads to an address that callbacks may not go to. Which one is not told: it may be nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    kind: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "its host has an address that is {}, where callbacks may not go", self.kind)
    }
}

impl std::error::Error for Refused {}

//! Who may do what: [`Access`] is asked before each request is.
//!
//! `docs/security.md` is this module for operators. [`rules`] has the table of paths and [`Scope`]s, [`token`] the [`Tokens`],
//! [`origins`] keeps out pages of other sites, [`Sight`] is how much of the inside a caller may see, and [`tls`] encrypts.
//! [`reloaded`] takes up changed files while the server runs.

mod bearer;
mod described;
mod error;
mod origins;
mod private_file;
mod reloaded;
mod revoked;
pub(crate) mod rules;
pub(crate) mod scope;
mod sight;
mod tls;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::HttpRequest;
use dunnage_loops::{Looping, Loops};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

pub(crate) use described::Described;
pub use error::AccessError;
pub use scope::{InvalidScopes, Scope, Scopes};
pub(crate) use sight::Sight;
pub use tls::TlsConfig;
pub use token::{InvalidTokens, Tokens, random_token};

use crate::config::{AccessConfig, HttpConfig};
use crate::problem::Problem;
use origins::Origins;
use reloaded::Reloaded;

/// Guards every path of a server.
#[derive(Debug)]
pub(crate) struct Access {
    /// `None` where nobody has to say who they are.
    tokens: Option<Arc<Reloaded<Tokens>>>,
    anonymous: Sight,
    pub(crate) origins: Origins,
    certificate: Option<Arc<Reloaded<CertifiedKey>>>,
}

impl Access {
    /// Reads the tokens and the certificate.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if they cannot be used, or if anybody could come in from other machines although that was not said to be
    /// meant.
    pub(crate) fn open(http: &HttpConfig, access: &AccessConfig) -> Result<Self, AccessError> {
        let tokens = tokens(access)?;
        let is_local = http.host.is_loopback();
        match (&tokens, http.allow_anonymous) {
            (Some(_), true) => return Err(AccessError::Contradiction),
            (None, false) if !is_local => return Err(AccessError::Unguarded(http.host)),
            _ => {}
        }
        let anonymous = if is_local && tokens.is_none() { Sight::Reasons } else { Sight::Surface };
        let origins = Origins::new(http.host, http.allowed_hosts.clone(), access.allowed_origins.clone());
        let certificate = access.tls.clone().map(TlsConfig::follow).transpose()?.map(Arc::new);
        Ok(Self { tokens: tokens.map(Arc::new), anonymous, origins, certificate })
    }

    /// Lets a request in, or says why not. Costs next to nothing where there are no tokens, and one digest where there are.
    ///
    /// # Errors
    ///
    /// The [`Problem`] to answer with.
    pub(crate) fn admit(&self, request: &HttpRequest) -> Result<Sight, Problem> {
        self.origins.check(request.headers())?;
        let Some(tokens) = &self.tokens else { return Ok(self.anonymous) };
        let presented = tokens.with(|tokens| bearer::scopes(tokens, request.headers()));
        let Some(needed) = rules::needed(request.path()) else { return Ok(presented.map_or(Sight::Surface, sight_with)) };
        match presented? {
            scopes if scopes.allow(needed) => Ok(sight_with(scopes)),
            // As far as can be seen before it is decoded, it leads nowhere. It goes no further, for it may lead somewhere all the same.
            _ if request.match_pattern().is_none() => Err(Problem::unknown_path()),
            _ => Err(bearer::lacks(needed)),
        }
    }

    /// Whether callers have to say who they are.
    pub(crate) fn takes_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Ends when a request that was let in would not be any more, because its token or what that allowed has been taken away. It does
    /// not keep the token.
    pub(crate) fn revoked(&self, request: &HttpRequest) -> impl Future<Output = ()> + Send + use<> {
        let needed = rules::needed(request.path());
        let guarded = self.tokens.clone().zip(needed);
        let standing = guarded.map(|(tokens, needed)| revoked::Standing::of(tokens, needed, request.headers()));
        async move {
            match standing {
                Some(standing) => standing.lost().await,
                None => std::future::pending().await,
            }
        }
    }

    /// What a caller sees of whom nothing else is known.
    pub(crate) fn usual_sight(&self) -> Sight {
        self.anonymous
    }

    /// What to encrypt connections with, if they are to be.
    pub(crate) fn tls(&self) -> Option<ServerConfig> {
        self.certificate.clone().map(tls::server_config)
    }

    /// Starts to follow the files of tokens and certificates, if there are any.
    pub(crate) fn follow(&self, loops: &Loops) -> Option<Looping> {
        let (tokens, certificate) = (self.tokens.clone(), self.certificate.clone());
        let has_files = certificate.is_some() || tokens.as_ref().is_some_and(|tokens| tokens.has_files());
        let refresh: Arc<reloaded::Refresh> = Arc::new(move |forced| {
            tokens.iter().for_each(|tokens| tokens.refresh(forced));
            certificate.iter().for_each(|certificate| certificate.refresh(forced));
        });
        has_files.then(|| loops.start("access-reloader", move |beat| reloaded::follow(Arc::clone(&refresh), beat)))
    }
}

fn sight_with(scopes: Scopes) -> Sight {
    let reads_jobs = scopes.allow(const { Scopes::of(&[Scope::Train]) });
    if reads_jobs { Sight::Tracebacks } else { Sight::Surface }
}

fn tokens(access: &AccessConfig) -> Result<Option<Reloaded<Tokens>>, AccessError> {
    let fixed = access.tokens.clone();
    let Some(file) = access.token_file.clone() else {
        let made = (!fixed.is_empty()).then(|| Reloaded::new("the tokens", Vec::new(), move || Ok(fixed.clone())));
        return made.transpose();
    };
    let read = file.clone();
    Reloaded::new("the tokens", vec![file], move || Ok(fixed.clone().and(Tokens::read(&read)?))).map(Some)
}

impl Tokens {
    /// Reads a file of tokens, which others may neither read nor write.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if it cannot be read, is open to others, is no list of tokens, or has none.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let bytes = private_file::read_private(path)?;
        let parsed = Self::parse(&String::from_utf8_lossy(&bytes));
        let tokens = parsed.map_err(|source| AccessError::Tokens { path: PathBuf::from(path), source })?;
        if tokens.is_empty() { Err(AccessError::NoTokens(path.to_owned())) } else { Ok(tokens) }
    }
}

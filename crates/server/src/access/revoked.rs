//! Noticing that what somebody goes on receiving is no longer theirs to have.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use super::bearer;
use super::reloaded::Reloaded;
use super::scope::Scopes;
use super::token::Tokens;

/// What a request was let in for, and by which token.
pub(super) struct Standing {
    tokens: Arc<Reloaded<Tokens>>,
    needed: Scopes,
    digest: Option<[u8; 32]>,
}

impl Standing {
    pub(super) fn of(tokens: Arc<Reloaded<Tokens>>, needed: Scopes, headers: &HeaderMap) -> Self {
        Self { tokens, needed, digest: bearer::digest(headers) }
    }

    /// Ends as soon as the tokens there are no longer allow it.
    pub(super) async fn lost(self) {
        // Before the first look, so that no change is missed.
        let mut news = self.tokens.news();
        while self.holds() {
            // The sender lives as long as the tokens, which this holds.
            let _ = news.changed().await;
        }
    }

    fn holds(&self) -> bool {
        let scopes = self.digest.and_then(|digest| self.tokens.with(|tokens| tokens.find_digest(&digest)));
        scopes.is_some_and(|scopes| scopes.allow(self.needed))
    }
}

//! Tokens, of which only digests are kept.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::scope::{InvalidScopes, Scopes};

/// A shorter token could be guessed.
const MIN_TOKEN_BYTES: usize = 32;
/// A longer one would be hashed for nothing.
const MAX_TOKEN_BYTES: usize = 512;
/// By which people, and programs that look for secrets in the wrong place, know what they see.
const PREFIX: &str = "dunnage_";

/// A new token of 256 random bits.
#[must_use]
pub fn random_token() -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// The tokens a server takes, each with what it allows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Known>);

#[derive(Clone, PartialEq, Eq)]
struct Known {
    digest: [u8; 32],
    scopes: Scopes,
}

impl Tokens {
    /// Reads `infer,train TOKEN`, one to a line or between semicolons. What follows a `#` is a comment.
    ///
    /// # Errors
    ///
    /// [`InvalidTokens`] with the number of the first wrong entry, and nothing of what it says.
    pub fn parse(text: &str) -> Result<Self, InvalidTokens> {
        let mut tokens = Self::default();
        for (index, line) in text.lines().enumerate() {
            let entries = line.split('#').next().unwrap_or_default().split(';').map(str::trim);
            for entry in entries.filter(|entry| !entry.is_empty()) {
                tokens.add(entry).map_err(|problem| InvalidTokens { line: index + 1, problem })?;
            }
        }
        Ok(tokens)
    }

    fn add(&mut self, entry: &str) -> Result<(), TokenProblem> {
        let (scopes, token) = entry.split_once(char::is_whitespace).ok_or(TokenProblem::Incomplete)?;
        let (scopes, token) = (scopes.parse()?, token.trim_start());
        if !is_well_formed(token) {
            return Err(TokenProblem::Malformed);
        }
        let digest = Sha256::digest(token).into();
        if self.0.iter().any(|known| known.digest == digest) {
            return Err(TokenProblem::Twice);
        }
        self.0.push(Known { digest, scopes });
        Ok(())
    }

    /// These and more. What is in both is allowed what both allow.
    pub(super) fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What `token` allows, if it is one of these.
    ///
    /// How long this takes says nothing about the tokens there are: digests are compared to their end, and all of them.
    pub(super) fn find(&self, token: &[u8]) -> Option<Scopes> {
        self.find_digest(&digest(token)?)
    }

    /// The same, for a token of which only the [`digest`] was kept.
    pub(super) fn find_digest(&self, digest: &[u8; 32]) -> Option<Scopes> {
        let mut bits = 0;
        for known in &self.0 {
            let is_it = known.digest.ct_eq(digest);
            bits |= u8::conditional_select(&0, &known.scopes.bits(), is_it);
        }
        (bits != 0).then_some(Scopes::from_bits(bits))
    }
}

/// What is kept of a token; `None` of what is too long to be one.
pub(super) fn digest(token: &[u8]) -> Option<[u8; 32]> {
    (token.len() <= MAX_TOKEN_BYTES).then(|| Sha256::digest(token).into())
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} tokens", self.len())
    }
}

/// Whether a text may be a token: long enough, and what RFC 6750 lets stand in a header.
fn is_well_formed(token: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(is_plain)
}

/// Why a text is no list of tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct InvalidTokens {
    line: usize,
    problem: TokenProblem,
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum TokenProblem {
    #[error("a token stands behind its scopes, as in `infer,train TOKEN`")]
    Incomplete,
    #[error(transparent)]
    Scopes(#[from] InvalidScopes),
    #[error("a token has 32 to 512 letters, digits or `-._~+/=`; `dunnage token` makes one")]
    Malformed,
    #[error("the token was there before")]
    Twice,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "ada-0123456789abcdef0123456789abcdef";
    const BOB: &str = "bob/0123456789abcdef0123456789abcd==";

    fn found(tokens: &Tokens, token: &str) -> Option<String> {
        tokens.find(token.as_bytes()).map(|scopes| scopes.to_string())
    }

    #[test]
    fn a_list_has_scopes_tokens_and_comments() {
        let text = format!("# ours\n\ninfer {ADA} # the phones\n  infer,train \t{BOB}\r\n");
        let tokens = Tokens::parse(&text).unwrap();
        assert_eq!(found(&tokens, ADA).as_deref(), Some("infer"));
        assert_eq!(found(&tokens, BOB).as_deref(), Some("infer,train"));
        assert_eq!(Tokens::parse(&format!("infer {ADA};infer,train {BOB};")), Ok(tokens));
    }

    #[test]
    fn only_the_whole_token_is_one() {
        let tokens = Tokens::parse(&format!("admin {ADA}")).unwrap();
        let longer = format!("{ADA}x");
        for wrong in ["", "ada", &ADA[..ADA.len() - 1], &ADA.to_uppercase(), &longer, BOB, &"x".repeat(100_000)] {
            assert_eq!(found(&tokens, wrong), None, "{wrong:.40}");
        }
        assert_eq!(found(&Tokens::default(), ADA), None);
    }

    #[test]
    fn a_wrong_entry_is_told_by_its_line_and_without_its_text() {
        let problem = |text: &str| Tokens::parse(text).unwrap_err().to_string();
        let (scopes, form) = (InvalidScopes.to_string(), TokenProblem::Malformed.to_string());
        let short = &ADA[..31];
        for (text, line, wrong) in [
            (format!("infer {ADA}\n{BOB}"), 2, TokenProblem::Incomplete.to_string()),
            (format!("{ADA} infer"), 1, scopes),
            (format!("\ninfer {short}"), 2, form.clone()),
            (format!("infer {ADA} {BOB}"), 1, form.clone()),
            (format!("infer {}", "ä".repeat(32)), 1, form),
            (format!("infer {ADA}\nadmin {ADA}"), 2, TokenProblem::Twice.to_string()),
        ] {
            assert_eq!(problem(&text), format!("line {line}: {wrong}"));
        }
    }

    #[test]
    fn new_tokens_are_well_formed_and_differ() {
        let (one, other) = (random_token(), random_token());
        assert!(is_well_formed(&one) && one.len() == PREFIX.len() + 43 && one != other, "{one} {other}");
    }

    #[test]
    fn tokens_are_in_no_debug_text() {
        let tokens = Tokens::parse(&format!("admin {ADA}")).unwrap();
        assert_eq!(format!("{tokens:?}"), "1 tokens");
    }
}

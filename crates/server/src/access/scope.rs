//! What a token allows.

use std::fmt;
use std::str::FromStr;

/// One kind of access. `docs/security.md` lists which path takes which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Asking the model: `/output`, and `/status` of a job whose id is known.
    Infer,
    /// Everything about jobs, and a look at the versions. Errors come with the script's traceback.
    Train,
    /// `/metrics`.
    Metrics,
    /// Everything, the other scopes included.
    Admin,
}

impl Scope {
    /// Every scope, from the least to the greatest.
    pub const ALL: [Self; 4] = [Self::Infer, Self::Train, Self::Metrics, Self::Admin];

    /// The word used in token files and in the description of the interface.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Train => "train",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ADMIN: Self = Self::of(&[Scope::Admin]);

    /// These.
    pub(crate) const fn of(scopes: &[Scope]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < scopes.len() {
            bits |= scopes[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// Whether whoever has these may do what one of `wanted` is needed for. `admin` may do everything.
    pub(crate) const fn allow(self, wanted: Self) -> bool {
        self.0 & (wanted.0 | Scope::Admin.bit()) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Scope::as_str).collect();
        formatter.write_str(&words.join(","))
    }
}

impl FromStr for Scopes {
    type Err = InvalidScopes;

    /// Reads words with commas between them, such as `infer,train`.
    fn from_str(text: &str) -> Result<Self, InvalidScopes> {
        let scope = |word| Scope::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or(InvalidScopes);
        text.split(',').try_fold(Self::NONE, |scopes, word| Ok(Self(scopes.0 | scope(word)?.bit())))
    }
}

/// The text names something else than scopes. It is not repeated, for it may be a token in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scopes are written like `infer` or `infer,train`; there are infer, train, metrics and admin")]
pub struct InvalidScopes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back_from_their_words() {
        for text in ["infer", "infer,train", "metrics", "infer,train,metrics,admin"] {
            assert_eq!(text.parse::<Scopes>().unwrap().to_string(), text);
        }
        assert_eq!("train,infer,train".parse::<Scopes>().unwrap().to_string(), "infer,train");
        for text in ["", ",", "infer,", "Infer", "infer, train", "root"] {
            assert_eq!(text.parse::<Scopes>(), Err(InvalidScopes), "{text}");
        }
    }

    #[test]
    fn one_of_the_wanted_scopes_is_enough_and_admin_always_is() {
        let (infer, train) = (Scopes::of(&[Scope::Infer]), Scopes::of(&[Scope::Train]));
        let either = Scopes::of(&[Scope::Infer, Scope::Train]);
        assert!(infer.allow(either) && train.allow(either) && Scopes::ADMIN.allow(either) && Scopes::ADMIN.allow(infer));
        assert!(!infer.allow(train) && !train.allow(infer) && !either.allow(Scopes::ADMIN) && !Scopes::NONE.allow(infer));
    }
}

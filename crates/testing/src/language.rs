//! The languages that come with the product.

/// A language scripts are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Hosted by `dunnage-python`.
    Python,
    /// Hosted by `dunnage-lua`.
    Lua,
}

impl Language {
    /// How the names of its scripts end.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Python => "py",
            Self::Lua => "lua",
        }
    }
}

/// Makes two tests of each function named, one for each language.
#[macro_export]
macro_rules! in_both_languages {
    ($($name:ident),* $(,)?) => {
        mod python {
            $(#[test] fn $name() { super::$name($crate::language::Language::Python); })*
        }
        mod lua {
            $(#[test] fn $name() { super::$name($crate::language::Language::Lua); })*
        }
    };
}

pub use crate::in_both_languages;

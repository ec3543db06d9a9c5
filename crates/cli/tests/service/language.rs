//! The languages that come with the product.

/// A language scripts are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Lua,
}

impl Language {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Python => "py",
            Self::Lua => "lua",
        }
    }
}

/// Makes two tests of each function named, one for each language.
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

pub(crate) use in_both_languages;

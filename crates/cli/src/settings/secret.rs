//! Settings that nobody may read off a screen: what they are is never printed, whoever said it.

use std::any::TypeId;
use std::fmt;

use clap::Arg;
use clap::builder::{NonEmptyStringValueParser, TypedValueParser};

/// What stands where a secret would.
pub(super) const MASK: &str = "…";

/// The value of such a setting. Its form is checked with all the settings, not by its parser, whose errors would repeat it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The value itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

/// Takes any text but the empty one.
pub(crate) fn parser() -> impl TypedValueParser<Value = Secret> {
    NonEmptyStringValueParser::new().map(Secret)
}

/// Whether a setting is a secret.
pub(super) fn is_secret(argument: &Arg) -> bool {
    argument.get_value_parser().type_id() == TypeId::of::<Secret>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_shows_no_secret() {
        let command = crate::cli::command();
        let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
        let secrets: Vec<_> = arguments.filter(|argument| is_secret(argument)).collect();
        assert!(!secrets.is_empty());
        for secret in secrets {
            assert!(secret.is_hide_env_values_set(), "{}", secret.get_id());
        }
    }

    #[test]
    fn a_secret_is_masked_where_it_is_printed() {
        assert_eq!(format!("{:?}", Some(Secret("hush".to_owned()))), "Some(…)");
    }
}

//! Where each value came from.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use serde_json::{Value, json};

use super::Settings;
use super::file::SettingsFile;
use super::secret::{MASK, is_secret};

/// One setting's value and its origin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The flag's name, or `script`.
    pub(crate) name: String,
    /// The value as it was written, or a mask for a secret; `None` if there is none.
    pub(crate) value: Option<String>,
    /// Who said so.
    pub(crate) source: Source,
}

/// The layers, from the strongest to the weakest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// The environment variable of this name.
    Environment(String),
    /// The file.
    File(PathBuf),
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("flag"),
            Self::Environment(name) => write!(formatter, "environment ({name})"),
            Self::File(path) => write!(formatter, "file ({})", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

impl Origin {
    /// As JSON, less the name: `{"value", "source"}`, with `variable` or `file` where there is one.
    pub(crate) fn to_json(&self) -> Value {
        let value = &self.value;
        match &self.source {
            Source::Flag => json!({"value": value, "source": "flag"}),
            Source::Environment(name) => json!({"value": value, "source": "environment", "variable": name}),
            Source::File(path) => json!({"value": value, "source": "file", "file": path}),
            Source::Default => json!({"value": value, "source": "default"}),
        }
    }
}

/// Every setting's origin, in the order of the help. `matches` was parsed with the file's values as defaults.
pub(crate) fn origins(matches: &ArgMatches, file: &SettingsFile) -> Vec<Origin> {
    let command = Settings::augment_args(Command::new("settings"));
    command.get_arguments().map(|argument| origin(argument, matches, file)).collect()
}

fn origin(argument: &Arg, matches: &ArgMatches, file: &SettingsFile) -> Origin {
    let id = argument.get_id().as_str();
    let values = matches.get_raw(id).map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","));
    let value = values.filter(|value| !value.is_empty());
    let value = value.map(|value| if is_secret(argument) { MASK.to_owned() } else { value });
    // The file that is read without being named.
    let value = value.or_else(|| file.path.as_ref().filter(|_| id == "config").map(|path| path.display().to_string()));
    let source = match (matches.value_source(id), &file.path) {
        (Some(ValueSource::CommandLine), _) => Source::Flag,
        (Some(ValueSource::EnvVariable), _) => Source::Environment(variable(argument)),
        (_, Some(path)) if file.get(id).is_some() => Source::File(path.clone()),
        _ => Source::Default,
    };
    Origin { name: argument.get_long().unwrap_or(id).to_owned(), value, source }
}

fn variable(argument: &Arg) -> String {
    argument.get_env().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of the environment variable that a parse error is about, if it is not the command line's.
///
/// clap names the flag only, which misleads those who never wrote it.
pub(crate) fn blamed_variable(command: &Command, error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let argument = command.get_arguments().find(|argument| argument.to_string() == *blamed)?;
    let name = argument.get_env()?;
    let is_set = std::env::var_os(name).is_some_and(|set| set == value.as_str());
    let flag = format!("--{}", argument.get_long().unwrap_or_default());
    let written = arguments.iter().any(|written| written.to_string_lossy().split('=').next() == Some(flag.as_str()));
    (is_set && !written).then(|| variable(argument))
}

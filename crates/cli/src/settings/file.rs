//! `dunnage.toml`: the layer between the environment and the defaults.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Arg, ArgAction, Args, Command};
use toml::Value;

use super::Settings;
use super::problems::Problems;
use super::secret::{MASK, is_secret};

/// The file that is read when none is named, beside the script.
const DEFAULT_NAME: &str = "dunnage.toml";
/// Between the values of a list.
const COMMA: &str = ",";

/// A file's settings, by the names of their fields; every value is known to be a valid one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SettingsFile {
    /// The file, if there is one.
    pub(crate) path: Option<PathBuf>,
    values: BTreeMap<String, String>,
}

impl SettingsFile {
    /// Reads the file named, or else the one beside the script if it exists: in the folder that `script` is or lies in, and in
    /// the current one where there is no `script`.
    ///
    /// # Errors
    ///
    /// [`Problems`] with everything that is wrong in the file: a named file that cannot be read, a TOML error, unknown
    /// keys, values of a wrong type or form.
    pub(crate) fn read(named: Option<&Path>, script: Option<&Path>) -> Result<Self, Problems> {
        let path = named.map_or_else(|| folder_of(script).join(DEFAULT_NAME), Path::to_owned);
        let subject = format!("`{}`", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Problems::one(subject, format!("cannot be read: {error}"))),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let subject = format!("`{}`", path.display());
        let arguments = arguments();
        let table: toml::Table = toml::from_str(text).map_err(|error| Problems::one(&subject, told(&arguments, &error, text)))?;
        let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
        for (key, value) in &table {
            match read_entry(&arguments, key, value) {
                Ok((argument, text)) => {
                    let text = if is_path(argument, &text) { beside(path, &text) } else { text };
                    if values.insert(argument.get_id().to_string(), text).is_some() {
                        problems.push(format!("`{key}` is there twice, with `-` and with `_`"));
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        Problems::none_in(subject, problems)?;
        Ok(Self { path: Some(path.to_owned()), values })
    }

    /// The value of a setting, as the command line would have it.
    pub(crate) fn get(&self, id: &str) -> Option<&str> {
        self.values.get(id).map(String::as_str)
    }

    /// Puts the values in as the command's defaults, so that one parser reads every layer.
    pub(crate) fn as_defaults_of(&self, command: Command) -> Command {
        self.values.iter().fold(command, |command, (id, value)| command.mut_arg(id, |argument| with_default(argument, value)))
    }

    /// The script that a folder stands for, where this is the folder's own file and says so.
    pub(crate) fn script_of(&self, folder: &Path) -> Option<PathBuf> {
        let own = self.path.as_ref().is_some_and(|path| *path == folder.join(DEFAULT_NAME));
        self.get("script").filter(|_| own && folder.is_dir()).map(PathBuf::from)
    }
}

/// An empty list is no default at all; the parser would take it for one empty value.
fn with_default(argument: Arg, value: &str) -> Arg {
    let is_empty_list = value.is_empty() && Kind::of(&argument) == Kind::List;
    if is_empty_list { argument } else { argument.default_value(value.to_owned()) }
}

/// The folder that a script is or lies in.
fn folder_of(script: Option<&Path>) -> &Path {
    match script {
        Some(folder) if folder.is_dir() => folder,
        Some(file) => file.parent().unwrap_or(Path::new("")),
        None => Path::new(""),
    }
}

/// Every setting a file may have. `config` itself is none.
fn arguments() -> Vec<Arg> {
    let command = Settings::augment_args(Command::new("settings"));
    command.get_arguments().filter(|argument| argument.get_id() != "config").cloned().collect()
}

/// What is wrong with the TOML. The library shows the line, which it must not if that may be one with a secret.
fn told(arguments: &[Arg], error: &toml::de::Error, text: &str) -> String {
    let whole = error.to_string();
    let is_named = |argument: &Arg| text.contains(argument.get_id().as_str()) || text.contains(&name_of(argument));
    if !arguments.iter().any(|argument| is_secret(argument) && is_named(argument)) {
        return whole.trim_end().to_owned();
    }
    format!("{}: {}", whole.lines().next().unwrap_or_default(), error.message())
}

/// A piece of a value, unless it is a secret's.
fn shown(argument: &Arg, piece: String) -> String {
    if is_secret(argument) { MASK.to_owned() } else { piece }
}

fn name_of(argument: &Arg) -> String {
    argument.get_id().as_str().replace('_', "-")
}

fn read_entry<'a>(arguments: &'a [Arg], key: &str, value: &Value) -> Result<(&'a Arg, String), String> {
    let id = key.replace('-', "_");
    let argument = arguments.iter().find(|argument| argument.get_id() == id.as_str()).ok_or_else(|| unknown(arguments, key))?;
    let texts = Kind::of(argument)
        .read(value)
        .map_err(|wanted| format!("`{key}` must be {wanted}, found {}", shown(argument, described(value))))?;
    for text in &texts {
        check(argument, text).map_err(|reason| format!("`{key}`: invalid value `{}`: {reason}", shown(argument, text.clone())))?;
    }
    Ok((argument, texts.join(COMMA)))
}

fn unknown(arguments: &[Arg], key: &str) -> String {
    let names = arguments.iter().map(name_of);
    match nearest(&key.replace('_', "-"), names) {
        Some(name) => format!("unknown key `{key}`; did you mean `{name}`?"),
        None => format!("unknown key `{key}`; the keys are the flags of `dunnage serve`, and `script`"),
    }
}

/// The name that may have been meant.
pub(super) fn nearest(written: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let alike = names.map(|name| (strsim::jaro(&name, written), name)).filter(|(likeness, _)| *likeness > 0.75);
    alike.max_by(|(left, _), (right, _)| left.total_cmp(right)).map(|(_, name)| name)
}

/// What a setting is in TOML.
#[derive(PartialEq)]
enum Kind {
    List,
    Boolean,
    Number,
    Size,
    Duration,
    Text,
}

impl Kind {
    fn of(argument: &Arg) -> Self {
        let found = argument.get_value_parser().type_id();
        let is = |wanted: TypeId| found == wanted;
        if matches!(argument.get_action(), ArgAction::Append) {
            Self::List
        } else if is(TypeId::of::<bool>()) {
            Self::Boolean
        } else if is(TypeId::of::<u16>()) || is(TypeId::of::<u32>()) || is(TypeId::of::<usize>()) {
            Self::Number
        } else if is(TypeId::of::<ByteSize>()) {
            Self::Size
        } else if is(TypeId::of::<Duration>()) {
            Self::Duration
        } else {
            Self::Text
        }
    }

    /// The value as texts, more or fewer than one only for a list, or what was wanted instead.
    fn read(&self, value: &Value) -> Result<Vec<String>, &'static str> {
        match (self, value) {
            (Self::List, Value::Array(values)) => {
                values.iter().map(|value| value.as_str().map(str::to_owned).ok_or(LIST)).collect()
            }
            (Self::Boolean, Value::Boolean(value)) => Ok(vec![value.to_string()]),
            (Self::Number | Self::Size, Value::Integer(value)) => Ok(vec![value.to_string()]),
            (Self::Size | Self::Duration | Self::Text, Value::String(value)) => Ok(vec![value.clone()]),
            (Self::List, _) => Err(LIST),
            (Self::Boolean, _) => Err("true or false"),
            (Self::Number, _) => Err("a whole number"),
            (Self::Size, _) => Err("a size such as \"64MiB\""),
            (Self::Duration, _) => Err("a time such as \"30s\""),
            (Self::Text, _) => Err("a text in quotes"),
        }
    }
}

const LIST: &str = "a list of texts such as [\"a\", \"b\"]";

fn described(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Runs the setting's own parser, as the command line would.
pub(super) fn check(argument: &Arg, text: &str) -> Result<(), String> {
    let alone =
        argument.clone().index(1).long(None::<&str>).env(None::<&str>).require_equals(false).num_args(1).value_delimiter(None);
    let command = Command::new("value").no_binary_name(true).disable_help_flag(true).arg(alone);
    let Err(error) = command.try_get_matches_from(["--", text]) else { return Ok(()) };
    match std::error::Error::source(&error) {
        Some(reason) => Err(reason.to_string()),
        None => Err(one_of(argument)),
    }
}

fn one_of(argument: &Arg) -> String {
    let words: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if words.is_empty() { "it may not be empty".to_owned() } else { format!("it is one of {}", words.join(", ")) }
}

/// Whether the value names a file by a path that is relative. Programs are paths only if they look like one.
fn is_path(argument: &Arg, text: &str) -> bool {
    match argument.get_id().as_str() {
        "script" | "data_dir" | "files_root" | "token_file" | "tls_cert" | "tls_key" => true,
        "runtime" | "python" => text.contains('/') || text.starts_with('.'),
        _ => false,
    }
}

/// A path in a file counts from that file's folder, wherever the command is run.
fn beside(file: &Path, text: &str) -> String {
    let folder = file.parent().unwrap_or(Path::new(""));
    folder.join(text).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        SettingsFile::parse(Path::new("dunnage.toml"), text).unwrap_err().found
    }

    #[test]
    fn keys_are_flags_with_either_dash() {
        let file = SettingsFile::parse(Path::new("dunnage.toml"), "max-batch = 8\nmax_wait = '5ms'\nreload = true\nmax-body = 10");
        let file = file.unwrap();
        let found = ["max_batch", "max_wait", "reload", "max_body", "port"].map(|id| file.get(id));
        assert_eq!(found, [Some("8"), Some("5ms"), Some("true"), Some("10"), None]);
    }

    #[test]
    fn an_unknown_key_is_told_with_its_nearest() {
        assert_eq!(problems("job-worker = 1"), ["unknown key `job-worker`; did you mean `job-workers`?"]);
        assert_eq!(problems("config = 'x'"), ["unknown key `config`; the keys are the flags of `dunnage serve`, and `script`"]);
        assert_eq!(problems("prot = 1"), ["unknown key `prot`; did you mean `port`?"]);
    }

    #[test]
    fn a_wrong_type_names_the_key() {
        for (text, problem) in [
            ("port = '80'", "`port` must be a whole number, found the text \"80\""),
            ("timeout = 30", "`timeout` must be a time such as \"30s\", found the number 30"),
            ("reload = 'yes'", "`reload` must be true or false, found the text \"yes\""),
            ("max-body = 1.5", "`max-body` must be a size such as \"64MiB\", found the number 1.5"),
            ("name = ['a']", "`name` must be a text in quotes, found a list"),
            ("allowed-host = 'a'", "`allowed-host` must be a list of texts such as [\"a\", \"b\"], found the text \"a\""),
            ("allowed-host = [1]", "`allowed-host` must be a list of texts such as [\"a\", \"b\"], found a list"),
            ("[jobs]\nlease = '1s'", "unknown key `jobs`; the keys are the flags of `dunnage serve`, and `script`"),
        ] {
            assert_eq!(problems(text), [problem], "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_by_the_settings_own_parser() {
        for (text, problem) in [
            ("port = 70000", "`port`: invalid value `70000`: 70000 is not in 0..=65535"),
            (
                "allowed-host = ['a.example', 'http://b']",
                "`allowed-host`: invalid value `http://b`: a host is named like models.example, without scheme, port or path",
            ),
            ("workers = -1", "`workers`: invalid value `-1`: invalid digit found in string"),
            ("timeout = '30'", "`timeout`: invalid value `30`: a time is written like 500ms, 2s, 5m, 24h or 7d"),
            ("log-format = 'xml'", "`log-format`: invalid value `xml`: it is one of auto, pretty, json"),
            ("host = 'x'", "`host`: invalid value `x`: an address to listen on is written like 127.0.0.1, ::1 or 0.0.0.0"),
        ] {
            assert_eq!(problems(text), [problem], "{text}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let error = SettingsFile::parse(Path::new("a.toml"), "prot = 1\nport = 'x'\nmax-wait = '1s'\nmax_wait = '1s'").unwrap_err();
        let text = "`a.toml`: 3 problems\n  - `max_wait` is there twice, with `-` and with `_`\n  - `port` must be a whole number, \
                    found the text \"x\"\n  - unknown key `prot`; did you mean `port`?";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_toml_error_tells_the_file_and_the_line() {
        let error = SettingsFile::parse(Path::new("a.toml"), "port = 1\nname =").unwrap_err().to_string();
        assert!(error.starts_with("`a.toml`: TOML parse error at line 2, column 7"), "{error}");
    }

    #[test]
    fn a_secret_is_in_no_problem() {
        for (text, problem) in [
            ("callback-secret = 7", "`callback-secret` must be a text in quotes, found …"),
            ("callback-secret = ['hush']", "`callback-secret` must be a text in quotes, found …"),
            ("callback_secret = ''", "`callback_secret`: invalid value `…`: it may not be empty"),
            ("callback-secret = 'hush", "TOML parse error at line 1, column 24: invalid literal string, expected `'`"),
            ("callback_secret = 'hush'\ncallback_secret = 'hush'", "TOML parse error at line 2, column 1: duplicate key"),
        ] {
            assert_eq!(problems(text), [problem], "{text}");
        }
    }

    #[test]
    fn paths_count_from_the_files_folder() {
        let text = "script = 'model.py'\ndata-dir = '/var/lib/d'\npython = '.venv'\nruntime = 'lua'";
        let file = SettingsFile::parse(Path::new("etc/d.toml"), text).unwrap();
        let found = ["script", "data_dir", "python", "runtime"].map(|id| file.get(id).unwrap());
        assert_eq!(found, ["etc/model.py", "/var/lib/d", "etc/.venv", "lua"]);
    }

    #[test]
    fn a_missing_file_matters_only_if_it_was_named() {
        let error = SettingsFile::read(Some(Path::new("/nowhere/d.toml")), None).unwrap_err().to_string();
        assert_eq!(error, "`/nowhere/d.toml`: cannot be read: No such file or directory (os error 2)");
    }
}

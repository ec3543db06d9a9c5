//! The commands and how the command line is read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands;
use crate::settings::Settings;
use crate::settings::file::SettingsFile;
use crate::settings::origin::{self, Origin};
use crate::settings::problems::Problems;

/// The commands that read the settings of a server, and with them `dunnage.toml`.
const WITH_SETTINGS: [&str; 3] = ["serve", "check", "config"];

/// Serves a Python or Lua script as a machine-learning microservice
#[derive(Debug, Parser)]
#[command(name = "dunnage", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The whole command line, as it is parsed, shown and completed.
pub(crate) fn command() -> clap::Command {
    Cli::command().mut_subcommand("check", |check| check.mut_args(hide_from_check))
}

/// `check` accepts what `serve` does, for both read the same file; what makes no difference to it stays out of its help.
fn hide_from_check(argument: Arg) -> Arg {
    let is_for_serving =
        matches!(argument.get_help_heading(), Some("HTTP" | "Access" | "Workers" | "Jobs" | "Callbacks" | "Storage"));
    let is_hidden = is_for_serving && argument.get_id() != "load_timeout" || argument.get_id() == "reload";
    argument.hide(is_hidden)
}

const EXAMPLES: &str = "\
Begin with:
  dunnage new gait                        make the folder `gait` with a small model
  dunnage serve gait                      serve it at http://127.0.0.1:8080
  dunnage train data/*.csv                teach it, and watch
  dunnage output walk.csv                 ask it";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(commands::serve::Serve),
    Check(commands::check::Check),
    New(commands::new::New),
    Config(commands::config::Config),
    Train(commands::submit::Train),
    Input(commands::submit::Input),
    Output(commands::output::Output),
    Status(commands::status::Status),
    Jobs(commands::jobs::Jobs),
    Logs(commands::logs::Logs),
    Cancel(commands::cancel::Cancel),
    Models(commands::models::Models),
    Migrate(commands::migrate::Migrate),
    Health(commands::health::Health),
    Token(commands::token::Token),
    #[command(hide = true)]
    Guard(commands::guard::Guard),
    Completions(commands::completions::Completions),
}

/// A command line that has been read, with `dunnage.toml` where the command wants it.
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    origins: Vec<Origin>,
}

impl Invocation {
    /// Reads the arguments. Ends the process where they ask for help or make no sense.
    ///
    /// # Errors
    ///
    /// [`Problems`] with `dunnage.toml` or an environment variable.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Self> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let matches = match command().try_get_matches_from(&arguments) {
            Ok(matches) => matches,
            Err(error) => return Err(blame(error, &arguments).into()),
        };
        match matches.subcommand() {
            Some((name, of_command)) if WITH_SETTINGS.contains(&name) => Self::with_file(name, of_command, &arguments),
            _ => Ok(Self { command: Cli::from_arg_matches(&matches)?.command, origins: Vec::new() }),
        }
    }

    /// Parses once more, the file's values as defaults. Where the file is was only known after the first time.
    fn with_file(name: &str, first: &ArgMatches, arguments: &[OsString]) -> anyhow::Result<Self> {
        let path = |id| first.get_one::<PathBuf>(id).map(PathBuf::as_path);
        let file = SettingsFile::read(path("config"), path("script"))?;
        let command = command().mut_subcommand(name, |of_command| with_script(file.as_defaults_of(of_command), file.clone()));
        let matches = command.try_get_matches_from(arguments)?;
        let origins = matches.subcommand().map(|(_, of_command)| origin::origins(of_command, &file)).unwrap_or_default();
        Ok(Self { command: Cli::from_arg_matches(&matches)?.command, origins })
    }

    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::New(command) => command.run(),
            Command::Config(command) => command.run(self.origins),
            Command::Train(command) => command.run(),
            Command::Input(command) => command.run(),
            Command::Output(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Jobs(command) => command.run(),
            Command::Logs(command) => command.run(),
            Command::Cancel(command) => command.run(),
            Command::Models(command) => command.run(),
            Command::Migrate(command) => command.run(),
            Command::Health(command) => command.run(),
            Command::Token(command) => command.run(),
            Command::Guard(command) => command.run(),
            Command::Completions(command) => command.run(),
        }
    }
}

/// The settings that `serve` would have here by the environment and `dunnage.toml`, without any flags.
///
/// # Errors
///
/// [`Problems`] as for [`Invocation::parse`], which ends the process as that does.
pub(crate) fn settings_of_serve() -> anyhow::Result<Settings> {
    let name = [OsString::from("serve")];
    let read = |command: clap::Command| command.try_get_matches_from(&name).map_err(|error| blame(error, &name));
    let command = Settings::augment_args(clap::Command::new("serve"));
    let first = read(command.clone())?;
    let path = |id| first.get_one::<PathBuf>(id).map(PathBuf::as_path);
    let file = SettingsFile::read(path("config"), path("script"))?;
    Ok(Settings::from_arg_matches(&read(file.as_defaults_of(command))?)?)
}

/// Lets a folder stand for the script that its own file names.
fn with_script(command: clap::Command, file: SettingsFile) -> clap::Command {
    let parser = PathBufValueParser::new().map(move |path: PathBuf| file.script_of(&path).unwrap_or(path));
    command.mut_arg("script", |script| script.value_parser(parser))
}

/// The error as it concerns the environment variable it comes from; otherwise clap says it best itself, and exits.
fn blame(error: clap::Error, arguments: &[OsString]) -> Problems {
    let mut command = command();
    command.build();
    let variable = command.get_subcommands().find_map(|command| origin::blamed_variable(command, &error, arguments));
    let Some(variable) = variable else { error.exit() };
    let text = error.to_string();
    let first_line = text.lines().next().unwrap_or_default();
    Problems::one(format!("environment variable `{variable}`"), first_line.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_variable_is_named_for_its_flag() {
        for command in command().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
                let expected = format!("DUNNAGE_{}", argument.get_id().as_str().to_uppercase());
                assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            }
        }
    }

    #[test]
    fn every_command_teaches_by_examples() {
        for command in command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let after = command.get_after_help().unwrap_or_else(|| panic!("`{}` has no examples", command.get_name()));
            assert!(after.to_string().contains(&format!("  dunnage {}", command.get_name())), "{}", command.get_name());
        }
    }
}

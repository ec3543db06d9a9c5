//! The written reference of all settings, made from the command line itself so that it cannot fall behind.

use std::fmt::Write;

use clap::{Arg, Command};

/// The table of `docs/configuration.md`.
pub(crate) fn markdown(command: &Command) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut heading = None;
    for argument in settings(command) {
        let title = argument.get_help_heading().unwrap_or("Script");
        if heading.replace(title) != Some(title) {
            let _ = write!(text, "\n## {title}\n\n| flag | variable | key | default | meaning |\n|---|---|---|---|---|\n");
        }
        text.push_str(&row(argument));
    }
    text.push_str(CLIENT);
    text.push_str(&client(command).map(row).collect::<String>());
    text
}

/// The whole of `.env.sample`.
pub(crate) fn env_sample(command: &Command) -> String {
    let mut text =
        "# Every variable that `dunnage` reads, with its default. Flags are stronger, `dunnage.toml` is weaker.\n".to_owned();
    for argument in settings(command).chain(client(command)) {
        let _ = write!(text, "\n# {}.\n# {}={}\n", meaning(argument), variable(argument), default(argument));
    }
    text
}

const INTRODUCTION: &str = "\
# Configuration

`dunnage serve` takes each setting from the first of these that has it:

1. the flag, such as `--max-batch 8`;
2. the environment variable, such as `DUNNAGE_MAX_BATCH=8`;
3. the file named by `--config`, or else `dunnage.toml` beside the script: `max-batch = 8` (or `max_batch`);
4. the default.

`dunnage config` prints the outcome, where each value came from, and what is wrong with it. `dunnage check` reads the same
settings.

Beside the script is the folder that `SCRIPT` is or lies in, and the current folder where no `SCRIPT` is given. The data lie there,
too, in `.dunnage`, so that `dunnage serve gait` serves the same from everywhere.

Times are written like `500ms`, `2s`, `5m`, `24h` or `7d`, sizes like `64MiB`, `10GiB` or `1048576`; both are texts in the file
(`timeout = \"30s\"`). Relative paths in the file count from its folder, all others from the current one. A switch such as
`--reload` is turned off again by `--reload=false`. `--allowed-host`, `--allowed-origin`, `--allow-files` and `--allow-output` may be
given more than once; their variables have commas between the values, and their keys are lists:
`allowed-host = [\"models.example\"]`.

Secrets such as `--callback-secret` and `--tokens` are never printed, also not by `dunnage config`. Say them by the variable or in the file: a
command line can be read by everybody on the machine.

Unknown keys and settings that make no sense stop the start, with everything that is wrong told at once. An unknown `DUNNAGE_*`
variable is only warned of, because other programs may use it.
";

const CLIENT: &str = "
## Client commands

| flag | variable | key | default | meaning |
|---|---|---|---|---|
";

fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    with_variables(command, "serve")
}

fn client(command: &Command) -> impl Iterator<Item = &Arg> {
    with_variables(command, "health")
}

fn with_variables<'a>(command: &'a Command, name: &str) -> impl Iterator<Item = &'a Arg> {
    command.find_subcommand(name).into_iter().flat_map(Command::get_arguments).filter(|argument| argument.get_env().is_some())
}

fn row(argument: &Arg) -> String {
    let flag = argument.get_long().map_or_else(|| "SCRIPT".to_owned(), |long| format!("--{long}"));
    let has_key = !matches!(argument.get_id().as_str(), "config" | "url" | "token" | "ca_file");
    let key = if has_key { format!("`{}`", flag.trim_start_matches("--").to_lowercase()) } else { String::new() };
    let default = default(argument);
    let default = if default.is_empty() { default } else { format!("`{default}`") };
    format!("| `{flag}` | `{}` | {key} | {default} | {} |\n", variable(argument), meaning(argument))
}

fn variable(argument: &Arg) -> String {
    argument.get_env().unwrap_or_default().to_string_lossy().into_owned()
}

fn default(argument: &Arg) -> String {
    argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect()
}

fn meaning(argument: &Arg) -> String {
    argument.get_help().map(ToString::to_string).unwrap_or_default()
}

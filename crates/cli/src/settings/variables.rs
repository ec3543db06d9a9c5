//! The environment variables that look like settings and are none.

use std::collections::BTreeSet;

use clap::Command;

use super::file::nearest;

const PREFIX: &str = "DUNNAGE_";
/// What our tests and examples read.
const OF_OTHERS: [&str; 1] = ["DUNNAGE_DATA"];
const OF_TESTS: &str = "DUNNAGE_TEST_";

/// A sentence about each variable that is set and that no command reads.
///
/// These are no errors: other programs may use them, and a later version may know them.
pub(crate) fn warnings(command: &Command) -> Vec<String> {
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    unknown(command, set.collect())
}

fn unknown(command: &Command, set: BTreeSet<String>) -> Vec<String> {
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let known: BTreeSet<_> =
        arguments.filter_map(|argument| argument.get_env()).map(|name| name.to_string_lossy().into_owned()).collect();
    let is_ours = |name: &String| name.starts_with(PREFIX) && !name.starts_with(OF_TESTS) && !OF_OTHERS.contains(&name.as_str());
    let unknown = set.into_iter().filter(|name| is_ours(name) && !known.contains(name));
    unknown.map(|name| warning(&name, &known)).collect()
}

fn warning(name: &str, known: &BTreeSet<String>) -> String {
    let short = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    match nearest(&short(name), known.iter().map(|name| short(name))) {
        Some(meant) => format!("the environment variable `{name}` is unknown and has no effect; did you mean `{PREFIX}{meant}`?"),
        None => format!("the environment variable `{name}` is unknown and has no effect"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_variables_with_our_prefix_are_told() {
        let set = ["DUNNAGE_PROT", "DUNNAGE_PORT", "DUNNAGE_URL", "DUNNAGE_DATA", "DUNNAGE_TEST_X", "PATH", "DUNNAGE_XYZZY"];
        let set = set.map(str::to_owned).into();
        assert_eq!(
            unknown(&crate::cli::command(), set),
            [
                "the environment variable `DUNNAGE_PROT` is unknown and has no effect; did you mean `DUNNAGE_PORT`?",
                "the environment variable `DUNNAGE_XYZZY` is unknown and has no effect"
            ]
        );
    }
}

//! The settings of callbacks.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};
use dunnage_server::{CallbackConfig, CallbackSecret};

use super::secret::{self, Secret};
use super::value;

/// A receiver that needs longer had better answer first and work then.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);
/// Shorter waits would be a hammering, longer ones would add up to years.
const BACKOFFS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

/// Telling clients of the ends of their jobs.
#[derive(Debug, Clone, Args)]
pub(crate) struct CallbackSettings {
    /// What callbacks are signed with: `whsec_` and the base64 of 24 to 64 random bytes; several, with spaces between, all sign
    #[arg(long, env = "DUNNAGE_CALLBACK_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = secret::parser())]
    pub(crate) callback_secret: Option<Secret>,
    /// Allow callbacks to private and loopback addresses, and over plain HTTP
    #[arg(long, env = "DUNNAGE_CALLBACK_PRIVATE", value_name = "true|false", default_value = "false",
          default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(),
          hide_possible_values = true)]
    pub(crate) callback_private: bool,
    /// How many deliveries of a callback are tried
    #[arg(long, env = "DUNNAGE_CALLBACK_ATTEMPTS", value_name = "COUNT", default_value_t = 10)]
    pub(crate) callback_attempts: u32,
    /// How long one delivery may take
    #[arg(long, env = "DUNNAGE_CALLBACK_TIMEOUT", value_name = "TIME", default_value = "15s", value_parser = value::duration)]
    pub(crate) callback_timeout: Duration,
    /// The first wait between two deliveries; the following grow to 5760 times as long (8h)
    #[arg(long, env = "DUNNAGE_CALLBACK_BACKOFF", value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub(crate) callback_backoff: Duration,
}

impl CallbackSettings {
    /// The secrets, each with a form that is known to be right.
    ///
    /// # Errors
    ///
    /// Which of them is none, by its number.
    pub(super) fn secrets(&self) -> Result<Vec<CallbackSecret>, String> {
        let text = self.callback_secret.as_ref().map_or("", Secret::reveal);
        let parts: Vec<_> = text.split([' ', ',']).filter(|part| !part.is_empty()).collect();
        if self.callback_secret.is_some() && parts.is_empty() {
            return Err("`--callback-secret` is blank".to_owned());
        }
        let is_one = parts.len() == 1;
        let read = |(index, part): (usize, &&str)| {
            let subject = if is_one { String::new() } else { format!(", number {} of {}", index + 1, parts.len()) };
            part.parse().map_err(|error| format!("`--callback-secret`{subject}: {error}"))
        };
        parts.iter().enumerate().map(read).collect()
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.callback_attempts == 0 {
            problems.push("`--callback-attempts` must be at least 1".to_owned());
        }
        if !TIMEOUTS.contains(&self.callback_timeout) {
            problems.push("`--callback-timeout` must be between 1s and 5m".to_owned());
        }
        if !BACKOFFS.contains(&self.callback_backoff) {
            problems.push("`--callback-backoff` must be between 100ms and 1h".to_owned());
        }
    }

    pub(super) fn config(&self, secrets: Vec<CallbackSecret>) -> CallbackConfig {
        CallbackConfig {
            secrets,
            allow_private: self.callback_private,
            attempts: self.callback_attempts,
            timeout: self.callback_timeout,
            backoff: self.callback_backoff,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The base64 of 24 bytes.
    const KEY: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const WANTED: &str = "a secret is `whsec_` and the base64 of 24 to 64 random bytes";

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: CallbackSettings,
    }

    fn settings(arguments: &[&str]) -> CallbackSettings {
        Only::parse_from([&["serve"], arguments].concat()).settings
    }

    #[test]
    fn secrets_stand_between_spaces_or_commas() {
        let count = |text: &str| settings(&["--callback-secret", text]).secrets().map(|secrets| secrets.len());
        assert_eq!(count(&format!("whsec_{KEY}")), Ok(1));
        assert_eq!(count(&format!(" whsec_{KEY}, whsec_{KEY} whsec_{KEY}")), Ok(3));
        assert_eq!(settings(&[]).secrets().map(|secrets| secrets.len()), Ok(0));
    }

    #[test]
    fn a_wrong_secret_is_told_by_its_number_only() {
        let problem = |text: &str| settings(&["--callback-secret", text]).secrets().unwrap_err();
        assert_eq!(problem("hush"), format!("`--callback-secret`: {WANTED}"));
        assert_eq!(problem(&format!("whsec_{KEY} hush")), format!("`--callback-secret`, number 2 of 2: {WANTED}"));
        assert_eq!(problem(" ,"), "`--callback-secret` is blank");
    }

    #[test]
    fn limits_make_sense() {
        let mut problems = Vec::new();
        let arguments = ["--callback-attempts", "0", "--callback-timeout", "0s", "--callback-backoff", "2h"];
        settings(&arguments).check(&mut problems);
        settings(&[]).check(&mut problems);
        let expected = [
            "`--callback-attempts` must be at least 1",
            "`--callback-timeout` must be between 1s and 5m",
            "`--callback-backoff` must be between 100ms and 1h",
        ];
        assert_eq!(problems, expected);
    }
}

//! The settings of connections: how many there are, how long they may be quiet, and how long the heads of requests may be.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use dunnage_server::ConnectionConfig;

use super::checked::in_memory;
use super::value;

/// The limits of connections; `docs/http.md` says what happens at each.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectionSettings {
    /// The most connections that are served at once; a few more are listened to for probes of health
    #[arg(long, env = "DUNNAGE_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 4096)]
    pub(crate) max_connections: usize,
    /// How long the head of a request may take to come
    #[arg(long, env = "DUNNAGE_HEAD_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) head_timeout: Duration,
    /// How long a connection may stay open without a request; 0s closes each after its first answer
    #[arg(long, env = "DUNNAGE_KEEP_ALIVE", value_name = "TIME", default_value = "75s", value_parser = value::duration)]
    pub(crate) keep_alive: Duration,
    /// How long a body may be awaited in all, beyond what its rate grants it
    #[arg(long, env = "DUNNAGE_BODY_GRACE", value_name = "TIME", default_value = "10s", value_parser = value::duration)]
    pub(crate) body_grace: Duration,
    /// How much of a body must come in each second that it is awaited, and of an answer be taken
    #[arg(long, env = "DUNNAGE_MIN_BODY_RATE", value_name = "SIZE", default_value = "1KiB", value_parser = value::size)]
    pub(crate) min_body_rate: ByteSize,
    /// How long a client may take nothing of its answer, and be slow with it in all, beyond what its rate grants it
    #[arg(long, env = "DUNNAGE_WRITE_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = value::duration)]
    pub(crate) write_timeout: Duration,
    /// The longest path of a request with its query
    #[arg(long, env = "DUNNAGE_MAX_TARGET", value_name = "SIZE", default_value = "8KiB", value_parser = value::size)]
    pub(crate) max_target: ByteSize,
    /// The longest head of a request: its first line and its headers
    #[arg(long, env = "DUNNAGE_MAX_HEAD", value_name = "SIZE", default_value = "64KiB", value_parser = value::size)]
    pub(crate) max_head: ByteSize,
}

impl ConnectionSettings {
    pub(super) fn config(&self) -> ConnectionConfig {
        ConnectionConfig {
            max: self.max_connections,
            head_timeout: self.head_timeout,
            keep_alive: self.keep_alive,
            body_grace: self.body_grace,
            min_body_rate: self.min_body_rate.as_u64(),
            write_timeout: self.write_timeout,
            max_target_bytes: in_memory(self.max_target),
            max_head_bytes: in_memory(self.max_head),
        }
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let counts = [
            ("max-connections", self.max_connections as u64, usize::MAX),
            ("min-body-rate", self.min_body_rate.as_u64(), usize::MAX),
            ("max-target", self.max_target.as_u64(), ConnectionConfig::LONGEST_TARGET),
            ("max-head", self.max_head.as_u64(), ConnectionConfig::LONGEST_HEAD),
        ];
        for (name, count, most) in counts {
            if count == 0 {
                problems.push(format!("`--{name}` must be at least 1"));
            } else if count > most as u64 {
                problems.push(format!("`--{name}` can be {most} at most"));
            }
        }
        let times = [("head-timeout", self.head_timeout), ("write-timeout", self.write_timeout)];
        let zeros = times.iter().filter(|(_, time)| time.is_zero());
        problems.extend(zeros.map(|(name, _)| format!("`--{name}` must be longer than 0s")));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: ConnectionSettings,
    }

    fn problems(arguments: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        Only::parse_from([&["serve"], arguments].concat()).settings.check(&mut problems);
        problems
    }

    #[test]
    fn limits_that_nothing_could_pass_are_refused() {
        assert!(problems(&[]).is_empty());
        let zeros = ["--max-connections", "0", "--head-timeout", "0s", "--min-body-rate", "0", "--max-target", "0"];
        let wanted =
            ["`--max-connections`", "`--min-body-rate`", "`--max-target`"].map(|name| format!("{name} must be at least 1"));
        assert_eq!(problems(&zeros)[..3], wanted);
        assert_eq!(problems(&zeros)[3..], ["`--head-timeout` must be longer than 0s"]);
        assert!(problems(&["--keep-alive", "0s", "--body-grace", "0s"]).is_empty());
    }

    #[test]
    fn limits_are_no_higher_than_what_can_be_read() {
        let highest = ["--max-target", "65534", "--max-head", "128KiB"];
        assert!(problems(&highest).is_empty());
        let too_high = problems(&["--max-target", "65535", "--max-head", "129KiB"]);
        assert_eq!(too_high, ["`--max-target` can be 65534 at most", "`--max-head` can be 131072 at most"]);
    }
}

//! The settings of how metrics get out.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Args, ValueEnum};
use dunnage_server::{MetricsConfig, MetricsOutput};

use super::value;

/// CloudWatch keeps nothing finer than the shortest; what is rarer than the longest scales nothing.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// What is written of the metrics, besides what `/metrics` answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct MetricSettings {
    /// Besides answering `/metrics`, write the signals that fleets scale on to standard output, for CloudWatch
    #[arg(long, env = "DUNNAGE_METRICS", value_name = "FORM", value_enum, default_value_t = MetricsForm::Prometheus)]
    pub(crate) metrics: MetricsForm,
    /// How often the signals are written
    #[arg(long, env = "DUNNAGE_METRICS_INTERVAL", value_name = "TIME", default_value = "1m", value_parser = value::duration)]
    pub(crate) metrics_interval: Duration,
}

/// The form of the metrics. (Texts on the variants would turn the whole help into its long form.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricsForm {
    Prometheus,
    Emf,
}

impl MetricSettings {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if !INTERVALS.contains(&self.metrics_interval) {
            problems.push("`--metrics-interval` must be between 1s and 1h".to_owned());
        }
    }

    pub(super) fn config(&self) -> MetricsConfig {
        let output = match self.metrics {
            MetricsForm::Prometheus => MetricsOutput::Prometheus,
            MetricsForm::Emf => MetricsOutput::Emf,
        };
        MetricsConfig { output, interval: self.metrics_interval }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: MetricSettings,
    }

    fn problems(interval: &str) -> Vec<String> {
        let mut problems = Vec::new();
        Only::parse_from(["serve", "--metrics-interval", interval]).settings.check(&mut problems);
        problems
    }

    #[test]
    fn only_intervals_that_make_sense_are_taken() {
        for (interval, is_taken) in [("1s", true), ("1h", true), ("999ms", false), ("2h", false)] {
            assert_eq!(problems(interval).is_empty(), is_taken, "{interval}");
        }
    }
}

//! What came of a soak.

use std::collections::BTreeMap;
use std::fmt;

use dunnage_testing::language::Language;

use crate::samples::Sample;
use crate::trend::slope;

/// How many lines of samples are printed.
const LINES: usize = 12;

/// What was seen and what there is to complain about.
pub(crate) struct Outcome {
    pub(crate) language: Language,
    pub(crate) samples: Vec<Sample>,
    /// How often which answer was heard.
    pub(crate) answers: BTreeMap<String, usize>,
    pub(crate) complaints: Vec<String>,
}

/// A column of the table: its name, and its number in a sample.
pub(crate) type Column = (&'static str, fn(&Sample) -> f64);

pub(crate) const COLUMNS: [Column; 9] = [
    ("server MB", |sample| sample.server_mb),
    ("workers MB", |sample| sample.workers_mb),
    ("descriptors", |sample| sample.descriptors as f64),
    ("threads", |sample| sample.threads as f64),
    ("processes", |sample| sample.processes as f64),
    ("data files", |sample| sample.data_files as f64),
    ("temporary files", |sample| sample.temporary_files as f64),
    ("/dev/shm", |sample| sample.shared_memory as f64),
    ("database MB", |sample| sample.database_mb),
];

/// By how much a column grows in each minute.
pub(crate) fn growth(samples: &[Sample], column: fn(&Sample) -> f64) -> f64 {
    let times: Vec<_> = samples.iter().map(|sample| sample.minutes).collect();
    slope(&times, &samples.iter().map(column).collect::<Vec<_>>())
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "soak in {:?}: {:?}", self.language, self.answers)?;
        let names = COLUMNS.map(|(name, _)| format!("{name:>15}"));
        writeln!(formatter, "{:>8}{}", "minutes", names.concat())?;
        for sample in self.samples.iter().step_by(self.samples.len().div_ceil(LINES).max(1)).chain(self.samples.last()) {
            let numbers = COLUMNS.map(|(_, column)| format!("{:>15.1}", column(sample)));
            writeln!(formatter, "{:>8.2}{}", sample.minutes, numbers.concat())?;
        }
        let warm = &self.samples[self.samples.len() / 3..];
        let slopes = COLUMNS.map(|(_, column)| format!("{:>15.2}", growth(warm, column)));
        writeln!(formatter, "{:>8}{}", "a minute", slopes.concat())?;
        self.complaints.iter().try_for_each(|complaint| writeln!(formatter, "complaint: {complaint}"))
    }
}

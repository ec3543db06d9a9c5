//! The committed limits, and what is made of a count beside its limit.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::tools::Tools;

/// How far a count may be from its limit, to either side, in hundredths.
///
/// Less than half of the growth that has to be noticed: a count that was allowed to fall by this much and then grows by 5 % is above its
/// limit by more than this.
const ALLOWED_PERCENT: u64 = 2;

/// What the file says about itself.
const HEAD: &str = "\
# Instructions a round, counted by `make guard`; what a round is stands in `src/subject.rs`. `make guard-limits` writes this file.
# Whoever commits a higher limit says in the commit what the instructions buy.
";

/// The instructions each subject may take, and what they were counted with.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// What decides about counts besides the code.
    pub tools: Tools,
    /// Instructions a round, by the names of the subjects.
    pub instructions: BTreeMap<String, u64>,
}

/// What is made of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what it was.
    Kept,
    /// It is more than it may be.
    Grown,
    /// It is so much less that the limit would hide a growth.
    Shrunk,
}

impl Verdict {
    /// What is made of `count` where `limit` is committed.
    #[must_use]
    pub fn of(count: u64, limit: u64) -> Self {
        let (count, limit) = (u128::from(count) * 100, u128::from(limit));
        if count > limit * u128::from(100 + ALLOWED_PERCENT) {
            Self::Grown
        } else if count < limit * u128::from(100 - ALLOWED_PERCENT) {
            Self::Shrunk
        } else {
            Self::Kept
        }
    }
}

impl Limits {
    /// Reads a file of limits.
    ///
    /// # Errors
    ///
    /// When it cannot be read or understood.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("the limits `{}` cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("the limits `{}` cannot be understood", path.display()))
    }

    /// Writes them to a file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = format!("{HEAD}\n{}", toml::to_string(self).context("the limits cannot be put into words")?);
        std::fs::write(path, text).with_context(|| format!("the limits `{}` cannot be written", path.display()))
    }

    /// The limit of a subject.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn of(&self, name: &str) -> anyhow::Result<u64> {
        self.instructions.get(name).copied().with_context(|| format!("`{name}` has no limit; `make guard-limits` writes one"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(toml::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::SUBJECTS;

    fn committed() -> Limits {
        Limits::parse(include_str!("../limits.toml")).unwrap()
    }

    #[test]
    fn each_subject_has_a_limit_and_nothing_else_has() {
        let mut names: Vec<&str> = SUBJECTS.iter().map(|subject| subject.name).collect();
        names.sort_unstable();
        assert_eq!(committed().instructions.keys().collect::<Vec<_>>(), names);
    }

    #[test]
    fn a_growth_by_five_percent_is_noticed_from_wherever_a_count_may_be() {
        for limit in committed().instructions.into_values() {
            let allowed = (limit * 9 / 10..=limit * 11 / 10).filter(|count| Verdict::of(*count, limit) == Verdict::Kept);
            for count in allowed {
                assert_eq!(Verdict::of((count * 105).div_ceil(100), limit), Verdict::Grown, "{count} beside {limit}");
            }
        }
    }

    #[test]
    fn a_limit_that_is_too_high_is_noticed() {
        assert_eq!(Verdict::of(95, 100), Verdict::Shrunk);
        assert_eq!(Verdict::of(98, 100), Verdict::Kept);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let path = tempfile::NamedTempFile::new().unwrap();
        committed().write(path.path()).unwrap();
        assert_eq!(Limits::read(path.path()).unwrap(), committed());
    }
}

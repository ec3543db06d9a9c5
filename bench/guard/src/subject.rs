//! What is counted.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::callgrind::Callgrind;
use crate::client::Question;
use crate::limits::Verdict;
use crate::place::Place;
use crate::{codec, object, pool, service};

/// One thing that is counted.
pub struct Subject {
    /// Its name in the file of limits.
    pub name: &'static str,
    /// What a round of it is.
    pub round: &'static str,
    /// Half of the rounds of its longer run. More of them leave less of what a start costs more or less.
    rounds: u32,
    kind: Kind,
}

enum Kind {
    /// Done by this program, which is run once more for that.
    Here(fn(&Place, u32) -> anyhow::Result<()>),
    /// Asked of a server, with this body.
    Asked(fn() -> anyhow::Result<Value>),
}

/// How often something is counted again.
const RECOUNTS: u32 = 2;

/// Everything that is counted.
pub const SUBJECTS: [Subject; 6] = [
    Subject {
        name: "encode_call",
        round: "a call with one file is written as a frame",
        rounds: 2000,
        kind: Kind::Here(codec::encode_calls),
    },
    Subject {
        name: "decode_answer",
        round: "an answer with 128 numbers is read from its frame",
        rounds: 2000,
        kind: Kind::Here(codec::decode_answers),
    },
    Subject {
        name: "print_vector",
        round: "128 numbers are printed as JSON",
        rounds: 2000,
        kind: Kind::Here(codec::print_vectors),
    },
    Subject {
        name: "pool",
        round: "a request passes through the queue to a worker, and its answer back",
        rounds: 3000,
        kind: Kind::Here(pool::ask),
    },
    Subject {
        name: "output",
        round: "`POST /output` with one object of S3, which lies in the cache, is answered with 128 numbers",
        rounds: 2000,
        kind: Kind::Asked(|| Ok(json!({"Files": [object::uri()?]}))),
    },
    Subject {
        name: "output_params",
        round: "the same, with 128 numbers in `Params`",
        rounds: 2000,
        kind: Kind::Asked(|| Ok(json!({"Files": [object::uri()?], "Params": {"row": codec::numbers()}}))),
    },
];

impl Subject {
    /// The subject of this name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named(name: &str) -> anyhow::Result<&'static Self> {
        SUBJECTS.iter().find(|subject| subject.name == name).with_context(|| format!("nothing is counted as `{name}`"))
    }

    /// Does so many rounds of what is done by this program.
    ///
    /// # Errors
    ///
    /// When a round fails.
    pub fn run(&self, place: &Place, rounds: u32) -> anyhow::Result<()> {
        match self.kind {
            Kind::Here(run) => run(place, rounds),
            Kind::Asked(_) => anyhow::bail!("`{}` is asked of a server", self.name),
        }
    }

    /// How many instructions a round takes.
    ///
    /// # Errors
    ///
    /// When something cannot be run or fails.
    pub fn count(&self, place: &Place) -> anyhow::Result<u64> {
        let totals = match self.kind {
            Kind::Here(_) => self.totals_here(place),
            Kind::Asked(body) => self.totals_asked(place, body),
        };
        let (longer, shorter) = totals.with_context(|| format!("`{}` cannot be counted", self.name))?;
        let difference = longer.checked_sub(shorter).context("more rounds took fewer instructions")?;
        Ok(difference / u64::from(self.rounds))
    }

    /// The same, counted again, at most twice, where it is not what is committed: what grows in every run is no accident.
    ///
    /// # Errors
    ///
    /// As [`Subject::count`].
    pub fn count_beside(&self, limit: u64, place: &Place) -> anyhow::Result<u64> {
        let mut count = self.count(place)?;
        for _ in 0..RECOUNTS {
            if Verdict::of(count, limit) == Verdict::Kept {
                break;
            }
            count = self.count(place)?;
        }
        Ok(count)
    }

    /// The median of some counts.
    ///
    /// # Errors
    ///
    /// As [`Subject::count`].
    pub fn count_often(&self, place: &Place) -> anyhow::Result<u64> {
        let mut counts = (0..=RECOUNTS).map(|_| self.count(place)).collect::<anyhow::Result<Vec<_>>>()?;
        counts.sort_unstable();
        Ok(counts[counts.len() / 2])
    }

    fn totals_here(&self, place: &Place) -> anyhow::Result<(u64, u64)> {
        let total = |rounds: u32| Callgrind::new()?.count(place.guard(), &["run", self.name, &rounds.to_string()]);
        Ok((total(2 * self.rounds)?, total(self.rounds)?))
    }

    fn totals_asked(&self, place: &Place, body: fn() -> anyhow::Result<Value>) -> anyhow::Result<(u64, u64)> {
        let question = Question::new(&body()?);
        let longer = service::take(place, &Callgrind::new()?, &question, 2 * self.rounds, Duration::ZERO)?;
        let shorter = service::take(place, &Callgrind::new()?, &question, self.rounds, longer.time)?;
        Ok((longer.instructions, shorter.instructions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once() {
        for subject in &SUBJECTS {
            assert_eq!(SUBJECTS.iter().filter(|other| other.name == subject.name).count(), 1, "{}", subject.name);
        }
    }
}

//! Identifiers. Each is a type of its own, so that two of them cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names one job. Random (122 bits), so that knowing one id says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Uuid);

impl JobId {
    /// Draws a fresh id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The same id as databases know it.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    /// A number that is the same for every attempt at this job; scripts seed their random generators with it.
    #[must_use]
    pub fn seed(self) -> u32 {
        self.0.as_fields().0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    /// Accepts the hyphenated form only, so that one job has one spelling.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let id = Uuid::try_parse(text).map_err(|_| InvalidId::Job)?;
        let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        canonical.then_some(Self(id)).ok_or(InvalidId::Job)
    }
}

impl From<Uuid> for JobId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

/// Names one life of one server process. Drawn at start, never derived from the host name or process id, so that a
/// restarted replica is never mistaken for its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    /// Draws a fresh id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The same id as databases know it.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for ReplicaId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl FromStr for ReplicaId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::Replica(text.to_owned()))
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

/// Numbers the workers of one replica, from 1, in the order they were started; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names a service: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, the first a letter or digit.
///
/// The form is safe as a folder, a database value and a metric label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest valid name to `text` (a script's file name, say): lower case, other characters as `-`.
    ///
    /// Falls back to `model` when nothing usable is left.
    #[must_use]
    pub fn nearest(text: &str) -> Self {
        let mapped: String = text
            .chars()
            .map(|character| character.to_ascii_lowercase())
            .map(|character| if is_name_character(character) { character } else { '-' })
            .collect();
        let trimmed = mapped.trim_start_matches(|character: char| !character.is_ascii_alphanumeric());
        let shortened: String = trimmed.chars().take(64).collect();
        shortened.parse().unwrap_or_else(|_| Self("model".to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for ServiceName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        let valid = starts_well && text.len() <= 64 && text.chars().all(is_name_character);
        valid.then(|| Self(text.to_owned())).ok_or_else(|| InvalidId::Service(text.to_owned()))
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '.' | '_' | '-')
}

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a job id. The text is left out: it came from a client and may be anything.
    #[error("a job id has the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in lower-case hexadecimal")]
    Job,
    /// Not a replica's id.
    #[error("`{0}` is not a replica's id, which is a UUID")]
    Replica(String),
    /// Not a service name.
    #[error("`{0}` is not a service name; use 1 to 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit")]
    Service(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_reads_back_from_its_text() {
        let id = JobId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_job_id_has_one_spelling() {
        let text = JobId::random().to_string();
        assert_eq!(text.to_uppercase().parse::<JobId>(), Err(InvalidId::Job));
        assert_eq!(text.replace('-', "").parse::<JobId>(), Err(InvalidId::Job));
        assert_eq!(format!("{{{text}}}").parse::<JobId>(), Err(InvalidId::Job));
    }

    #[test]
    fn service_names_are_checked() {
        for good in ["gait", "0", "a.b_c-d", &"x".repeat(64)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "A", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_service_name_is_valid() {
        for (text, name) in [("Model", "model"), ("my model", "my-model"), ("../x", "x"), ("…", "model"), ("", "model")] {
            assert_eq!(ServiceName::nearest(text).as_str(), name, "{text}");
        }
    }
}

//! Versions: published artifacts, numbered within their service.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::job::UnknownWord;
use crate::{JobId, Timestamp};

/// The number of a published artifact; rises by one within a service and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub NonZeroU32);

impl Version {
    /// The version numbered `number`, or `None` for zero.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The plain number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Whether a version may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Complete and verified; may be activated.
    Ready,
    /// Could not be loaded; never serves.
    Bad,
}

impl VersionState {
    /// The word used in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Bad => "bad",
        }
    }
}

impl FromStr for VersionState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Ready, Self::Bad].into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// One published artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelVersion {
    /// Its number.
    pub version: Version,
    /// Whether it may serve.
    pub state: VersionState,
    /// Whether it is the one that serves now. At most one version of a service is.
    pub active: bool,
    /// Names its folder (or, later, its objects); unlike the number, known before it is published.
    pub artifact: String,
    /// The training job that made it.
    pub job: JobId,
    /// When it was published.
    pub created_at: Timestamp,
    /// Why it is bad.
    pub error: Option<String>,
}

//! How a cache is to behave.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The flag that sets the size of the largest object.
pub(super) const MAX_FILE_FLAG: &str = "--max-file";

/// How a cache is to behave.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// Where the files are kept. Several processes may name the same folder; each keeps its files in a subfolder of its own.
    pub folder: PathBuf,
    /// The most bytes on the disk: files, what is being written, and what is kept beside them.
    pub capacity: u64,
    /// The largest object that is fetched, in bytes.
    pub max_file: u64,
    /// When a copy is good enough.
    pub revalidate: Revalidate,
    /// How long to wait for room while everything is in use.
    pub patience: Duration,
    /// How long one fetch may take altogether.
    pub fetch_timeout: Duration,
}

/// When a copy of an object is used without asking S3 whether it is still the object. A copy of a named version always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidate {
    /// Every use asks; uses at the same time share a question that was asked after all of them began.
    Always,
    /// A copy is used for as long as it is kept.
    Never,
    /// A copy is used until this long after S3 was last asked.
    After(Duration),
}

/// A text that is no [`Revalidate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither `always` nor `never` nor a time like `60s`")]
pub struct InvalidRevalidate(String);

impl FromStr for Revalidate {
    type Err = InvalidRevalidate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            time => humantime::parse_duration(time).map(Self::After).map_err(|_| InvalidRevalidate(text.to_owned())),
        }
    }
}

impl fmt::Display for Revalidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => formatter.write_str("always"),
            Self::Never => formatter.write_str("never"),
            Self::After(time) => humantime::format_duration(*time).fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["always", "never", "1m", "250ms", "0s"] {
            assert_eq!(text.parse::<Revalidate>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse(), Ok(Revalidate::After(Duration::from_secs(60))));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "Always", "60", "-1s", "sometimes"] {
            assert!(text.parse::<Revalidate>().unwrap_err().to_string().contains("`60s`"), "{text}");
        }
    }
}

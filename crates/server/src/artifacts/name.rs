//! What artifacts are called: by whom they were made, and what is in them.

use std::fmt;
use std::str::FromStr;

use dunnage_store::Lease;
use dunnage_types::JobId;

use super::digest::Digest;

/// Names one complete artifact: `<job>-<lease>.<SHA-256 of its manifest>`.
///
/// It is what the transaction that publishes a version records, so that the winning attempt fixes every byte of the version. No two
/// attempts make the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ArtifactName {
    lease: Lease,
    manifest: Digest,
}

impl ArtifactName {
    pub(crate) fn new(lease: Lease, manifest: Digest) -> Self {
        Self { lease, manifest }
    }

    /// The digest of the manifest that belongs to this name, and of no other.
    pub(crate) fn manifest(&self) -> Digest {
        self.manifest
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", of_attempt(self.lease), self.manifest)
    }
}

impl FromStr for ArtifactName {
    type Err = UnknownName;

    /// Accepts what is written by [`fmt::Display`] and nothing else: a name becomes part of paths.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let unknown = || UnknownName(text.to_owned());
        let (attempt, digest) = text.split_once('.').ok_or_else(unknown)?;
        let lease = lease(attempt).ok_or_else(unknown)?;
        let name = Self { lease, manifest: digest.parse().map_err(|_| unknown())? };
        if name.to_string() == text { Ok(name) } else { Err(unknown()) }
    }
}

/// A text that names no artifact with a manifest.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{}` names no artifact with a manifest, so its bytes cannot be checked; train again", .0.escape_debug())]
pub(crate) struct UnknownName(String);

/// What an attempt's artifact is called while it is being made.
pub(crate) fn of_attempt(lease: Lease) -> String {
    format!("{}-{}", lease.job, lease.number)
}

/// Whether a text is the name of an artifact, or was one before artifacts had manifests.
pub(crate) fn is_ours(text: &str) -> bool {
    text.parse::<ArtifactName>().is_ok() || lease(text).is_some()
}

fn lease(attempt: &str) -> Option<Lease> {
    let (job, number) = attempt.rsplit_once('-')?;
    Some(Lease { job: job.parse::<JobId>().ok()?, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        let name = ArtifactName::new(Lease { job: JobId::random(), number: 3 }, Digest::of(b"{}"));
        assert_eq!(name.to_string().parse::<ArtifactName>().unwrap(), name);
        let text = name.to_string();
        for other in [
            text.to_uppercase(),
            text.replace("-3.", "-+3."),
            text.replace("-3.", "-03."),
            format!("{text}0"),
            format!("../{text}"),
            text.replace('.', "/"),
            of_attempt(name.lease),
            String::new(),
        ] {
            assert!(other.parse::<ArtifactName>().is_err(), "{other}");
        }
        assert!(is_ours(&text) && is_ours(&of_attempt(name.lease)));
        assert!(!is_ours("pending") && !is_ours("not ours"));
    }
}

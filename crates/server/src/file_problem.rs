//! What clients are told of files that cannot be had.

use dunnage_files::{FileError, FileProblem};

use crate::problem::{Code, Problem, chain};

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        if blames_us(&error.problem) {
            tracing::error!(address = %error.address, error = %chain(&error.problem), "a file cannot be had");
        }
        let problem = Self::new(code(&error.problem), error.to_string());
        match error.problem.retry_after() {
            Some(wait) => problem.retry_after(wait),
            None => problem,
        }
    }
}

/// The stable code of each way in which a file cannot be had.
pub(crate) fn code(problem: &FileProblem) -> Code {
    match problem {
        FileProblem::Missing => Code::FileNotFound,
        FileProblem::NotAFile | FileProblem::NotReadable | FileProblem::Io(_) => Code::FileNotReadable,
        FileProblem::OutsideRoot => Code::FileOutsideRoot,
        FileProblem::NoRoot => Code::FilesRootUnset,
        FileProblem::NotAllowed => Code::FileNotAllowed,
        FileProblem::NoBucket => Code::BucketNotFound,
        FileProblem::Denied => Code::FileDenied,
        FileProblem::Archived => Code::FileArchived,
        FileProblem::Changed => Code::FileChanged,
        FileProblem::Corrupt => Code::FileCorrupt,
        FileProblem::Truncated => Code::FileTruncated,
        FileProblem::TooLarge { .. } => Code::FileTooLarge,
        FileProblem::TooLargeTogether { .. } => Code::FilesTooLarge,
        FileProblem::Throttled(_) => Code::S3Throttled,
        FileProblem::Stalled => Code::S3Stalled,
        FileProblem::Unavailable(_) | FileProblem::BreakerOpen(_) => Code::S3Unavailable,
        FileProblem::Credentials(_) => Code::S3CredentialsRefused,
        FileProblem::WrongRegion(_) => Code::S3RegionWrong,
        FileProblem::CacheFull => Code::CacheFull,
        FileProblem::CacheDisk(_) => Code::CacheUnavailable,
        FileProblem::DeadlinePassed(_) => Code::DeadlineExceeded,
    }
}

/// Whether somebody who runs the server should look into it.
fn blames_us(problem: &FileProblem) -> bool {
    matches!(problem, FileProblem::Io(_) | FileProblem::CacheDisk(_) | FileProblem::Credentials(_) | FileProblem::Unavailable(_))
}

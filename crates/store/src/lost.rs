//! What is said of an attempt whose holder is gone.

use dunnage_types::JobError;

/// The error of an attempt that was taken from its holder: because the lease ended or, while it was still being `renewed`, because
/// the attempt took longer than it may.
pub(crate) fn lost(attempt: u32, max_attempts: u32, renewed: bool) -> JobError {
    let (code, message) = if renewed {
        ("attempt_overdue", format!("attempt {attempt} of {max_attempts} took longer than it may and was given up"))
    } else {
        ("attempt_lost", format!("the worker or server that ran attempt {attempt} of {max_attempts} was lost"))
    };
    JobError { code: code.to_owned(), message, traceback: None }
}

/// The error of a job whose last attempt was `lost`; it keeps what is known of the attempt before.
pub(crate) fn exhausted(lost: &JobError, before: Option<JobError>) -> JobError {
    let mut message = format!("{}, and no more are allowed", lost.message);
    let mut traceback = None;
    if let Some(before) = before {
        message = format!("{message}; before that: {}", before.message);
        traceback = before.traceback;
    }
    JobError { code: "attempts_exhausted".to_owned(), message, traceback }
}

//! What an error means that came instead of an answer.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::DisplayErrorContext;

use super::failure::Failure;
use crate::FileProblem;

/// The meaning of an error without an answer. The texts name no host: clients see them.
pub(super) fn meaning(error: &(dyn Error + 'static)) -> Failure {
    if let Some(credentials) = chain(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        return without_credentials(credentials);
    }
    let text = chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ").to_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let reason = if mentions(&["dns error", "failed to lookup"]) {
        "its name cannot be resolved"
    } else if mentions(&["certificate", "tls", "corruptmessage", "handshake"]) {
        "no TLS connection can be made to it"
    } else if let Some(kind) = chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
        of_connection(kind)
    } else if mentions(&["timed out", "timeout"]) {
        "no connection to it can be made in time"
    } else if text.contains("construct") {
        tracing::warn!(error = %text, "a request to S3 cannot be made");
        return Failure::Final(FileProblem::Unavailable("the request cannot be made; the server's log says why".to_owned()));
    } else {
        "the connection to it broke"
    };
    Failure::Passing(FileProblem::Unavailable(reason.to_owned()), None)
}

fn without_credentials(error: &CredentialsError) -> Failure {
    tracing::warn!(error = %DisplayErrorContext(error), "the credentials for S3 cannot be had");
    let reason = match error {
        CredentialsError::CredentialsNotLoaded(_) => "none were found",
        CredentialsError::ProviderTimedOut(_) => "whoever has them did not answer in time",
        CredentialsError::InvalidConfiguration(_) => "the configuration of where to get them is wrong",
        _ => "they cannot be had; the server's log says why",
    };
    Failure::Final(FileProblem::Credentials(reason.to_owned()))
}

fn of_connection(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "the connection was refused",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "the network does not lead to it",
        io::ErrorKind::TimedOut => "no connection to it can be made in time",
        _ => "the connection to it broke",
    }
}

/// Whether no connection was made, whatever the reason.
pub(super) fn is_connecting(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| cause.to_string().to_lowercase().contains("connect"))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

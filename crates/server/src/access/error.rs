//! Why a server cannot guard its doors.

use std::net::IpAddr;
use std::path::PathBuf;

use super::private_file::FileProblem;
use super::token::InvalidTokens;

/// Why tokens or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The address is open to others, and nobody has to say who they are.
    #[error(
        "`{0}` can be reached from other machines; name tokens with `--token-file`, use a loopback address, or say \
         `--allow-anonymous` if that is meant"
    )]
    Unguarded(IpAddr),
    /// Tokens are needed, and are not.
    #[error("there are tokens, and `--allow-anonymous` says that none is needed; leave one of them out")]
    Contradiction,
    /// A file cannot be read, or must not be.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// The file's text is no list of tokens.
    #[error("`{}` is no list of tokens", path.display())]
    Tokens {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidTokens,
    },
    /// The file has no token.
    #[error("there is no token in `{}`, so that nobody could come in", .0.display())]
    NoTokens(PathBuf),
    /// The file is not in PEM.
    #[error("`{}` is no {what} in PEM", path.display())]
    Pem {
        /// What it should be.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The key cannot be used, or is another certificate's.
    #[error("the certificate in `{}` and the key in `{}` cannot be used together", certificate.display(), key.display())]
    KeyPair {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's path.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

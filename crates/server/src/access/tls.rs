//! The server's certificate.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::AccessError;
use super::private_file::{read_private, read_public};
use super::reloaded::Reloaded;

/// Where the server's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, followed by those that lead from it to an authority. `--tls-cert`.
    pub certificate: PathBuf,
    /// Its private key. `--tls-key`.
    pub key: PathBuf,
}

impl TlsConfig {
    /// Reads both files to see whether they can be used.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if they cannot be read, or do not belong together.
    pub fn check(&self) -> Result<(), AccessError> {
        self.read().map(drop)
    }

    /// The certificate, followed from now on.
    pub(super) fn follow(self) -> Result<Reloaded<CertifiedKey>, AccessError> {
        let files = vec![self.certificate.clone(), self.key.clone()];
        Reloaded::new("the certificate", files, move || self.read())
    }

    fn read(&self) -> Result<CertifiedKey, AccessError> {
        let certificates = read_public(&self.certificate)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
        let certificates = certificates.and_then(|found| if found.is_empty() { Err(Error::NoItemsFound) } else { Ok(found) });
        let certificates =
            certificates.map_err(|source| AccessError::Pem { what: "certificate", path: self.certificate.clone(), source })?;
        let key = PrivateKeyDer::from_pem_slice(&read_private(&self.key)?).map_err(|source| AccessError::Pem {
            what: "private key",
            path: self.key.clone(),
            source,
        })?;
        CertifiedKey::from_der(certificates, key, &provider()).map_err(|source| {
            let Self { certificate, key } = self.clone();
            AccessError::KeyPair { certificate, key, source }
        })
    }
}

/// What connections are encrypted with: TLS 1.3 and 1.2, with the newest certificate at each handshake. Connections that are
/// open keep theirs.
pub(super) fn server_config(certificate: Arc<Reloaded<CertifiedKey>>) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Newest(certificate)))
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// Shows the newest certificate, whatever name it is asked for.
struct Newest(Arc<Reloaded<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current())
    }
}

impl fmt::Debug for Newest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Newest")
    }
}

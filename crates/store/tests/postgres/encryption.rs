//! Encrypted connections, and whom they are made to.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use dunnage_store::{Jobs, PostgresStore, StoreError};
use dunnage_testing::postgres::Cluster;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::bench::settings;

/// Authorities and a server's certificate, made for `localhost` by the first of them.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let certificates = Self(folder);
        for authority in ["authority", "stranger"] {
            certificates.openssl(authority, &["-addext", "basicConstraints=critical,CA:TRUE"]);
        }
        let (by, key) = (certificates.path("authority.pem"), certificates.path("authority.key"));
        let signed = ["-CA", by.to_str().unwrap(), "-CAkey", key.to_str().unwrap()];
        let of_server = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost"];
        certificates.openssl("server", &[signed.as_slice(), &of_server].concat());
        certificates
    }

    /// Makes a certificate and its key.
    fn openssl(&self, name: &str, more: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
        openssl.args(["-subj", &format!("/CN={name}")]).args(more);
        openssl.arg("-keyout").arg(self.path(&format!("{name}.key"))).arg("-out").arg(self.path(&format!("{name}.pem")));
        let output = openssl.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A cluster that shows the server's certificate, and whose key is its own.
    fn cluster(&self) -> Cluster {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        own(&key, Cluster::shared().folder());
        Cluster::start_with(&[
            ("ssl", "on"),
            ("ssl_cert_file", certificate.to_str().unwrap()),
            ("ssl_key_file", key.to_str().unwrap()),
        ])
    }
}

/// Gives a key to whom PostgreSQL runs as.
fn own(key: &Path, folder: &Path) {
    let owner = folder.metadata().unwrap();
    chown(key, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_encrypts_and_checks_as_much_as_it_says() {
    let (certificates, cluster) = block_in_place(|| {
        let certificates = Certificates::make();
        let cluster = certificates.cluster();
        (certificates, cluster)
    });
    let url = block_in_place(|| cluster.database());
    let root = |name: &str| format!("&sslrootcert={}", certificates.path(name).display());
    let (right, wrong) = (root("authority.pem"), root("stranger.pem"));
    for (host, options, is_encrypted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca{right}"), true),
        ("localhost", format!("sslmode=verify-full{right}"), true),
    ] {
        let store = PostgresStore::open(settings(&to(&url, host, &options))).await;
        let store = store.unwrap_or_else(|error| panic!("{options}: {error:?}"));
        // It stays connected for the next call.
        store.backlog().await.unwrap();
        let count = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'dunnage'";
        let encrypted = block_in_place(|| cluster.sql(&url, count));
        assert_eq!(encrypted, if is_encrypted { "t" } else { "f" }, "{options}");
        drop(store);
        let gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dunnage'";
        crate::given::until("the connections have ended", async || block_in_place(|| cluster.sql(&url, gone)) == "0").await;
    }
    for (host, options) in [
        ("localhost", format!("sslmode=verify-full{wrong}")),
        ("127.0.0.1", format!("sslmode=verify-ca{wrong}")),
        ("127.0.0.1", format!("sslmode=require{wrong}")),
        ("127.0.0.1", format!("sslmode=verify-full{right}")),
        ("localhost", "sslmode=verify-full".to_owned()),
        ("localhost", format!("sslmode=verify-full{}", root("none.pem"))),
    ] {
        let refused = PostgresStore::open(settings(&to(&url, host, &options))).await;
        let Err(StoreError::Unavailable(error)) = refused else { panic!("{host} {options}: {refused:?}") };
        assert!(error.to_string().contains("sslrootcert"), "{options}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_encryption_is_used_unless_it_is_required() {
    let url = crate::bench::database().await;
    PostgresStore::open(settings(&format!("{url}?sslmode=prefer"))).await.unwrap();
    assert!(PostgresStore::open(settings(&format!("{url}?sslmode=require"))).await.is_err());
}

fn to(url: &str, host: &str, options: &str) -> String {
    format!("{}?{options}", url.replacen("127.0.0.1", host, 1))
}

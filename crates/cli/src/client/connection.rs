//! Where the service is, who asks, and whom to trust.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueHint};
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::Client;
use crate::settings::secret::{self, Secret};

/// Where a service answers unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// How long a connection may take; the answer itself may take as long as the script does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Before the name of a file with a token.
const FILE_MARK: char = '@';

/// Where the service is, and what it wants to know of who asks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Where the service answers; by default http://127.0.0.1:8080
    #[arg(long, env = "DUNNAGE_URL", value_parser = base_url)]
    url: Option<String>,
    /// The token to send, or `@FILE` to read it from a file; on the command line, others can read a token itself
    #[arg(long, env = "DUNNAGE_TOKEN", value_name = "TOKEN|@FILE", hide_env_values = true, value_parser = secret::parser())]
    token: Option<Secret>,
    /// The certificates to verify an https service with, in PEM; by default those of the operating system
    #[arg(long, env = "DUNNAGE_CA_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca_file: Option<PathBuf>,
}

impl Connection {
    /// A client of the service. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the file of the token or of the certificates cannot be used.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.client_within(None)
    }

    /// A client that gives each request up after this time.
    ///
    /// # Errors
    ///
    /// As for [`Connection::client`].
    pub(crate) fn client_within(&self, timeout: Option<Duration>) -> anyhow::Result<Client> {
        let url = self.url.as_deref().unwrap_or(DEFAULT_URL);
        let agent = agent(url, timeout, self.tls(url)?);
        let authorization = self.token.as_ref().map(|token| authorization(token.reveal())).transpose()?;
        Ok(Client { agent, base: url.to_owned(), authorization })
    }

    /// Whether it was said where the service answers.
    pub(crate) fn is_given(&self) -> bool {
        self.url.is_some()
    }

    fn tls(&self, url: &str) -> anyhow::Result<TlsConfig> {
        let config = TlsConfig::builder();
        let config = match &self.ca_file {
            _ if !url.starts_with("https://") => config,
            Some(path) => config.root_certs(authorities(path)?),
            None => config.root_certs(known_authorities()),
        };
        Ok(config.build())
    }
}

/// A client of whatever answers at a URL of this machine, which gives each request up after this time.
///
/// It takes any certificate, since a server's own is for the names by which others call it, and therefore sends no token.
pub(crate) fn unverified(url: String, timeout: Duration) -> Client {
    let tls = TlsConfig::builder().disable_verification(true).build();
    Client { agent: agent(&url, Some(timeout), tls), base: url, authorization: None }
}

fn agent(url: &str, timeout: Option<Duration>, tls: TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(timeout)
        .tls_config(tls)
        .user_agent(concat!("dunnage/", env!("CARGO_PKG_VERSION")));
    // A proxy could not reach what only this machine can.
    let config = if is_loopback(url) { config.proxy(None) } else { config };
    config.build().new_agent()
}

fn authorities(path: &Path) -> anyhow::Result<RootCerts> {
    let unusable = || format!("cannot use the certificates in `{}` (`--ca-file`)", path.display());
    let pem = std::fs::read(path).with_context(unusable)?;
    let items = parse_pem(&pem).collect::<Result<Vec<_>, _>>().with_context(unusable)?;
    let certificate = |item| if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None };
    let certificates: Vec<_> = items.into_iter().filter_map(certificate).collect();
    ensure!(!certificates.is_empty(), "there is no certificate in `{}` (`--ca-file`)", path.display());
    Ok(certificates.into())
}

/// Those of the operating system; a system without any, such as a bare container, gets those that browsers trust.
fn known_authorities() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).into()
}

/// The header with a token, which is the text itself or lies in the file it names.
fn authorization(text: &str) -> anyhow::Result<String> {
    let Some(path) = text.strip_prefix(FILE_MARK) else { return header(text, "`--token` is") };
    let token = std::fs::read_to_string(path).with_context(|| format!("cannot read the token in `{path}` (`--token`)"))?;
    header(token.trim(), &format!("`{path}` (`--token`) has"))
}

fn header(token: &str, whose: &str) -> anyhow::Result<String> {
    let is_one_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_one_word, "{whose} no token, which is one word; the scopes before it in a server's file are not part of it");
    Ok(format!("Bearer {token}"))
}

fn base_url(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    let host = trimmed.strip_prefix("http://").or_else(|| trimmed.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && trimmed.parse::<ureq::http::Uri>().is_ok() => Ok(trimmed.to_owned()),
        _ => Err("a URL is written like http://127.0.0.1:8080 or https://models.example/gait".to_owned()),
    }
}

fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<ureq::http::Uri>().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_last_slash() {
        assert_eq!(base_url("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(base_url("https://models.example/gait/"), Ok("https://models.example/gait".to_owned()));
    }

    #[test]
    fn other_texts_are_no_urls() {
        for text in ["", "127.0.0.1:8080", "http://", "ftp://a", "http://a b"] {
            assert!(base_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_has_three_spellings() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }

    #[test]
    fn a_token_is_the_text_or_in_the_file_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let named = format!("@{}", path.display());
        assert!(authorization(&named).unwrap_err().to_string().starts_with("cannot read the token in"));
        std::fs::write(&path, "hush\n").unwrap();
        assert_eq!(authorization(&named).unwrap(), "Bearer hush");
        assert_eq!(authorization("hush").unwrap(), "Bearer hush");
        std::fs::write(&path, "infer hush\n").unwrap();
        for problem in [authorization(&named), authorization("two words"), authorization("\u{e4}")] {
            let problem = problem.unwrap_err().to_string();
            assert!(problem.contains("no token, which is one word") && !problem.contains("hush"), "{problem}");
        }
    }
}

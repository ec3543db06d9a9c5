//! The URL of a callback, as clients may give it and as they see it again.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use super::address;
use crate::config::CallbackConfig;
use crate::problem::{Code, Problem};

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Accepts a client's `Callback`, or says why not. What its name leads to is looked at when it is delivered.
///
/// # Errors
///
/// A [`Problem`] that does not repeat the URL, for there may be a secret in it and the problem is logged.
pub(crate) fn accept(url: String, config: &CallbackConfig) -> Result<String, Problem> {
    if config.secrets.is_empty() {
        let detail = "this server signs no callbacks; whoever runs it has to set `--callback-secret`";
        return Err(Problem::new(Code::CallbackUnavailable, detail));
    }
    match check(&url, config.allow_private) {
        Ok(()) => Ok(url),
        Err(reason) => Err(Problem::new(Code::CallbackInvalid, format!("`Callback` {reason}"))),
    }
}

/// The URL without its query, where receivers like to have secrets.
pub(crate) fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// The URL's host and port, which is what logs tell of it.
pub(super) fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    uri.and_then(|uri| Some(uri.authority()?.to_string())).unwrap_or_default()
}

/// Reads the URL as the HTTP client will, so that both mean the same host.
fn check(url: &str, allow_private: bool) -> Result<(), String> {
    if url.len() > MAX_URL_BYTES {
        return Err(format!("may have {MAX_URL_BYTES} bytes"));
    }
    if url.contains('#') {
        return Err("may not have a fragment (`#…`)".to_owned());
    }
    let not_understood = || "is no URL such as `https://example.com/hook`".to_owned();
    let uri: Uri = url.parse().map_err(|_| not_understood())?;
    let authority = uri.authority().ok_or_else(not_understood)?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if allow_private => {}
        _ => return Err("must begin with `https://`".to_owned()),
    }
    if authority.as_str().contains('@') {
        return Err("may not have a user or a password; the signature says who sent it".to_owned());
    }
    if authority.host().is_empty() || !has_proper_port(authority) {
        return Err(not_understood());
    }
    check_host(authority.host(), allow_private)
}

/// A port that is none would be left out silently.
fn has_proper_port(authority: &Authority) -> bool {
    let host = authority.host();
    authority.port_u16().map_or(authority == host, |port| authority.as_str() == format!("{host}:{port}"))
}

fn check_host(host: &str, allow_private: bool) -> Result<(), String> {
    let bare = host.trim_matches(['[', ']']);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return match address::refusal(address, allow_private) {
            Some(kind) => Err(format!("may not go to `{address}`, which is {kind}")),
            None => Ok(()),
        };
    }
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let is_loopback = name == "localhost" || name.ends_with(".localhost");
    if is_loopback && !allow_private { Err("may not go to `localhost`, which is loopback".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_goes_to_a_public_https_url() {
        for url in [
            "https://example.com",
            "https://example.com:8443/hook?token=1",
            "HTTPS://example.com/a",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
        ] {
            assert_eq!(check(url, false), Ok(()), "{url}");
        }
    }

    #[test]
    fn every_other_url_is_refused_with_its_reason() {
        let not_understood = "is no URL such as `https://example.com/hook`";
        for (url, reason) in [
            ("", not_understood),
            ("/hook", not_understood),
            ("https:///hook", not_understood),
            ("https://:443/", not_understood),
            ("https://example.com:99999/", not_understood),
            ("https://example.com:/", not_understood),
            ("https://example.com/a b", not_understood),
            ("https://example.com/\n", not_understood),
            ("example.com", "must begin with `https://`"),
            ("http://example.com/", "must begin with `https://`"),
            ("ftp://example.com/", "must begin with `https://`"),
            ("https://example.com/#a", "may not have a fragment (`#…`)"),
            ("https://ada:pw@example.com/", "may not have a user or a password; the signature says who sent it"),
            ("https://example.com@10.0.0.1/", "may not have a user or a password; the signature says who sent it"),
            ("https://10.0.0.1/", "may not go to `10.0.0.1`, which is private"),
            ("https://127.0.0.1:80/", "may not go to `127.0.0.1`, which is loopback"),
            ("https://169.254.169.254/", "may not go to `169.254.169.254`, which is link-local"),
            ("https://[::1]/", "may not go to `::1`, which is loopback"),
            ("https://[::ffff:10.0.0.1]/", "may not go to `::ffff:10.0.0.1`, which is private"),
            ("https://LocalHost./", "may not go to `localhost`, which is loopback"),
            ("https://a.localhost/", "may not go to `localhost`, which is loopback"),
        ] {
            assert_eq!(check(url, false), Err(reason.to_owned()), "{url}");
        }
        assert_eq!(check(&format!("https://a/{}", "x".repeat(MAX_URL_BYTES)), false), Err("may have 2048 bytes".to_owned()));
    }

    #[test]
    fn private_receivers_may_be_allowed() {
        for url in ["http://127.0.0.1:9000/hook", "http://localhost/", "https://10.0.0.1/", "http://[fd00::1]/"] {
            assert_eq!(check(url, true), Ok(()), "{url}");
        }
        assert_eq!(check("http://169.254.169.254/", true), Err("may not go to `169.254.169.254`, which is link-local".to_owned()));
        assert_eq!(check("ftp://10.0.0.1/", true), Err("must begin with `https://`".to_owned()));
    }

    #[test]
    fn the_query_is_not_shown() {
        assert_eq!(shown("https://example.com/hook?token=hush"), "https://example.com/hook");
        assert_eq!(host("https://example.com:8443/hook?token=hush"), "example.com:8443");
    }
}

//! Whether a request may come from a browser that shows somebody else's page.

use std::net::IpAddr;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use crate::problem::{Code, Problem};

/// What pages of allowed origins may send.
const CORS_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
const CORS_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id, x-request-id");
/// What they may read of an answer besides its body and what is always allowed.
const CORS_EXPOSED: HeaderValue =
    HeaderValue::from_static("location, model-version, retry-after, server-timing, www-authenticate, x-request-id");
/// How long a browser may remember that, in seconds.
const CORS_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// From which kind of page a browser sends a request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// By which names the server may be called, and from pages of which sites.
#[derive(Debug)]
pub(crate) struct Origins {
    /// Whether we listen to this machine alone.
    loopback: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Origins {
    pub(super) fn new(listening: IpAddr, hosts: Vec<String>, origins: Vec<String>) -> Self {
        Self { loopback: listening.is_loopback(), hosts, origins }
    }

    /// Refuses what a browser sends for a page of another site, and what was sent to a name that is not ours.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refuse = |detail| Err(Problem::new(Code::HostRefused, detail));
        if self.is_foreign(headers) {
            return refuse("requests from pages of other sites are refused, unless they are named by `--allowed-origin`");
        }
        if !headers.get_all(header::HOST).all(|called| self.is_ours(called)) {
            return refuse("this server is not known by that name here; allow it with `--allowed-host`");
        }
        Ok(())
    }

    /// A page of another site must not be able to make a browser talk to us: whoever sits before it may be let in where the page
    /// is not.
    fn is_foreign(&self, headers: &HeaderMap) -> bool {
        let is_cross_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site");
        let mut origins = headers.get_all(header::ORIGIN);
        match (origins.next(), origins.next()) {
            (None, _) => is_cross_site,
            (Some(origin), None) if self.is_allowed(origin) => false,
            (Some(origin), None) => is_cross_site || !is_same(origin, headers.get(header::HOST)),
            (Some(_), Some(_)) => true,
        }
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
    }

    /// A page whose own name leads here must not pass for one of ours. No name can lead to a page that was asked for by address, so
    /// that addresses are safe; on loopback, others than its own are not for us all the same.
    fn is_ours(&self, called: &HeaderValue) -> bool {
        let Ok(called) = called.to_str() else { return false };
        let name = host_name(called);
        let address = name.parse::<IpAddr>();
        let is_local = name.eq_ignore_ascii_case("localhost") || address.as_ref().is_ok_and(IpAddr::is_loopback);
        let is_named = || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
        let takes_any = !self.loopback && (self.hosts.is_empty() || address.is_ok());
        is_local || takes_any || is_named()
    }

    /// The answer to a browser that asks whether a page of an allowed origin may send a request; it sends no token with that.
    pub(crate) fn preflight(&self, request: &HttpRequest) -> Option<HttpResponse> {
        let asks = request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let may_ask = asks && request.headers().get(header::ORIGIN).is_some_and(|origin| self.is_allowed(origin));
        may_ask.then(|| {
            HttpResponse::NoContent()
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE))
                .finish()
        })
    }

    /// The headers by which a page of an allowed origin may read the answer to a request.
    pub(crate) fn shared(&self, request: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        if self.origins.is_empty() {
            return Vec::new();
        }
        let origin = request.get(header::ORIGIN).filter(|origin| self.is_allowed(origin));
        let of_origin = origin.map(|origin| {
            let allowed = (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            [allowed, (header::ACCESS_CONTROL_EXPOSE_HEADERS, CORS_EXPOSED)]
        });
        let varies = (header::VARY, HeaderValue::from_static("Origin"));
        of_origin.into_iter().flatten().chain([varies]).collect()
    }
}

/// Whether a page's origin is the server that is asked. A proxy may speak TLS for us, so the scheme does not matter.
fn is_same(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let origin_host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = host.and_then(|host| host.to_str().ok());
    origin_host.is_some_and(|origin_host| host.is_some_and(|host| host.eq_ignore_ascii_case(origin_host)))
}

/// A `Host` header without its port, and an IPv6 address without its brackets.
fn host_name(called: &str) -> &str {
    match called.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => called.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(origins: &Origins, headers: &[(HeaderName, &[u8])]) -> Option<Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        origins.check(&map).err().map(|problem| problem.code())
    }

    fn listening(address: &str, hosts: &[&str], origins: &[&str]) -> Origins {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Origins::new(address.parse().unwrap(), owned(hosts), owned(origins))
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (called, name) in
            [("localhost:80", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:8080", "::1"), ("evil.test:1", "evil.test")]
        {
            assert_eq!(host_name(called), name);
        }
    }

    #[test]
    fn names_that_are_not_ours_are_refused_where_they_could_do_harm() {
        let (local, open) = (listening("127.0.0.1", &["models.example"], &[]), listening("0.0.0.0", &[], &[]));
        let named = listening("0.0.0.0", &["models.example"], &[]);
        for (called, on_local, on_open, on_named) in [
            ("localhost:80", true, true, true),
            ("[::1]:80", true, true, true),
            ("models.example", true, true, true),
            ("MODELS.example:80", true, true, true),
            ("192.168.0.1:80", false, true, true),
            ("[fd00::1]", false, true, true),
            ("evil.test", false, true, false),
            ("127.0.0.1.evil.test", false, true, false),
            ("", false, true, false),
        ] {
            let verdict = |origins| code(origins, &[(header::HOST, called.as_bytes())]).is_none();
            assert_eq!((verdict(&local), verdict(&open), verdict(&named)), (on_local, on_open, on_named), "{called}");
        }
        let twice = [(header::HOST, &b"localhost"[..]), (header::HOST, b"evil.test")];
        assert_eq!(code(&local, &twice), Some(Code::HostRefused));
        assert_eq!(code(&open, &[(header::HOST, b"\xff")]), Some(Code::HostRefused));
        assert_eq!(code(&local, &[]), None);
    }

    #[test]
    fn pages_of_other_sites_are_refused_unless_they_are_allowed() {
        let origins = listening("0.0.0.0", &[], &["https://app.example", "http://localhost:3000"]);
        let host = (header::HOST, &b"models.example:80"[..]);
        let refused = Some(Code::HostRefused);
        for (origin, site, expected) in [
            (None, None, None),
            (None, Some("same-origin"), None),
            (None, Some("none"), None),
            (None, Some("cross-site"), refused),
            (Some("http://models.example:80"), Some("same-origin"), None),
            (Some("https://Models.example:80"), None, None),
            (Some("http://models.example:80"), Some("cross-site"), refused),
            (Some("http://models.example"), None, refused),
            (Some("http://models.example:8080"), Some("same-site"), refused),
            (Some("https://app.example"), Some("cross-site"), None),
            (Some("https://APP.example"), None, None),
            (Some("http://app.example"), None, refused),
            (Some("https://app.example.evil.test"), None, refused),
            (Some("http://localhost:3000"), None, None),
            (Some("http://localhost:3001"), None, refused),
            (Some("null"), None, refused),
            (Some(""), None, refused),
            (Some("models.example:80"), None, refused),
        ] {
            let mut headers = vec![host.clone()];
            headers.extend(origin.map(|origin| (header::ORIGIN, origin.as_bytes())));
            headers.extend(site.map(|site| (SEC_FETCH_SITE, site.as_bytes())));
            assert_eq!(code(&origins, &headers), expected, "{origin:?} {site:?}");
        }
        let own = (header::ORIGIN, &b"http://models.example:80"[..]);
        assert_eq!(code(&origins, &[host.clone(), own.clone(), own]), refused);
        assert_eq!(code(&origins, &[host, (header::ORIGIN, b"https://\xff")]), refused);
    }
}

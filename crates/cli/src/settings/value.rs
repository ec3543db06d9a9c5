//! How single values are written.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

/// Reads `500ms`, `2s`, `5m`, `24h`, `7d` and their sums, such as `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time is written like 500ms, 2s, 5m, 24h or 7d".to_owned())
}

/// Reads `64MiB`, `10GiB`, or a plain number of bytes.
pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_: String| "a size is written like 64MiB, 10GiB or 1048576".to_owned())
}

/// Reads an IP address, or `localhost`.
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "an address to listen on is written like 127.0.0.1, ::1 or 0.0.0.0".to_owned())
}

/// Reads the name of a host, in lower case.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    let is_name = !text.is_empty() && text.chars().all(is_plain);
    let wanted = || "a host is named like models.example, without scheme, port or path".to_owned();
    if is_name { Ok(text.to_ascii_lowercase()) } else { Err(wanted()) }
}

/// Reads the origin of a page, in lower case.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._:[]".contains(character);
    let is_origin = host.is_some_and(|host| !host.is_empty() && host.chars().all(is_plain));
    let wanted = || "an origin is written like https://app.example or http://localhost:3000, without a path".to_owned();
    if is_origin { Ok(text.to_ascii_lowercase()) } else { Err(wanted()) }
}

/// Checks a level or a filter.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("a log level is error, warn, info, debug or trace, or a filter such as `info,dunnage_workers=debug`".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [("500ms", 500), ("2s", 2_000), ("5m", 300_000), ("24h", 86_400_000), ("7d", 604_800_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in ["", "30", "5 parsecs", "-1s", "s"] {
            assert_eq!(duration(text), Err("a time is written like 500ms, 2s, 5m, 24h or 7d".to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_decimal_or_plain() {
        for (text, bytes) in [("64MiB", 67_108_864), ("10GiB", 10_737_418_240), ("1048576", 1_048_576), ("1 kB", 1000)] {
            assert_eq!(size(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "12 parsecs", "1MiB x"] {
            assert_eq!(size(text), Err("a size is written like 64MiB, 10GiB or 1048576".to_owned()), "{text}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_localhost() {
        assert_eq!(host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(host("::1").map(|host| host.is_loopback()), Ok(true));
        assert_eq!(host("a.example"), Err("an address to listen on is written like 127.0.0.1, ::1 or 0.0.0.0".to_owned()));
    }

    #[test]
    fn host_names_have_neither_scheme_nor_port() {
        assert_eq!(host_name("Models.example"), Ok("models.example".to_owned()));
        for text in ["", "a:80", "http://a", "a/b", "*"] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins_have_a_scheme_and_no_path() {
        assert_eq!(origin("https://App.example:8443"), Ok("https://app.example:8443".to_owned()));
        assert_eq!(origin("http://[::1]:3000"), Ok("http://[::1]:3000".to_owned()));
        for text in ["", "app.example", "https://", "https://app.example/", "ftp://app.example", "https://a@b", "null", "*"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn log_filters_are_checked() {
        assert!(log_filter("info,dunnage_workers=debug").is_ok());
        assert!(log_filter("x=loud").is_err());
    }
}

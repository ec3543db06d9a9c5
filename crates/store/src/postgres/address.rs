//! Where the database is: the URL, as libpq reads it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::{Trust, Verification};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent data may go unacknowledged: what notices a database that is no longer there.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVES_RETRIES: u32 = 3;
/// What names us in `pg_stat_activity`.
const APPLICATION_NAME: &str = "dunnage";
const DEFAULT_PORT: u16 = 5432;

/// A database, and how its server is to be trusted. What is printed of it holds no password.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    /// How to check whom we talk to, when the connection is encrypted.
    pub(super) verification: Verification,
}

impl Address {
    /// Reads `postgres://…`, or libpq's `host=… dbname=…`.
    ///
    /// `sslmode` and `sslrootcert` mean what they mean for libpq; tokio-postgres knows half of the first and nothing of the second.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let mut options = Options::default();
        let rest = match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
            Some(url) => options.take_from_url(url)?,
            None => options.take_from_pairs(text)?,
        };
        let mut config: Config = rest.parse().map_err(AddressError::Invalid)?;
        let (mode, verification) = options.encryption()?;
        config.ssl_mode(mode);
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(AddressError::NoHost);
        }
        set_defaults(&mut config, options.has_session_attributes);
        Ok(Self { config, verification })
    }

    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or("postgres")
    }
}

/// What a connection is like unless the address says otherwise.
fn set_defaults(config: &mut Config, has_session_attributes: bool) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(KEEPALIVES_IDLE).keepalives_interval(KEEPALIVES_INTERVAL).keepalives_retries(KEEPALIVES_RETRIES);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    if !has_session_attributes {
        // After a failover, the old primary or a standby may still take connections.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "database `{}` on ", self.database())?;
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        let mut separator = "";
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            match host {
                Host::Tcp(name) => write!(formatter, "{separator}`{name}:{}`", port(index))?,
                Host::Unix(folder) => write!(formatter, "{separator}`{}`", folder.display())?,
            }
            separator = ", ";
        }
        if self.config.get_hosts().is_empty() {
            for (index, address) in self.config.get_hostaddrs().iter().enumerate() {
                write!(formatter, "{separator}`{address}:{}`", port(index))?;
                separator = ", ";
            }
        }
        match self.config.get_user() {
            Some(user) => write!(formatter, " as user `{user}`"),
            None => Ok(()),
        }
    }
}

/// Why an address cannot be used. Never repeats it: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    #[error("the database's address cannot be read; it has the form `postgres://user:password@host:5432/database`")]
    Invalid(#[source] tokio_postgres::Error),
    #[error("the database's address cannot be read: a quote is not closed, or a `=` is missing")]
    Malformed,
    #[error("the database's address names no host; it has the form `postgres://user:password@host:5432/database`")]
    NoHost,
    #[error("`{0}` is no sslmode; use disable, prefer, require, verify-ca or verify-full")]
    SslMode(String),
    #[error("the database's address is not UTF-8 once its escapes are read")]
    Encoding,
}

/// The options that we read ourselves.
#[derive(Default)]
struct Options {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    has_session_attributes: bool,
}

impl Options {
    /// Notes an option, if it is ours; whether it was.
    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "sslmode" => self.sslmode = Some(value.to_owned()),
            "sslrootcert" => self.sslrootcert = Some(value.to_owned()),
            _ => {
                self.has_session_attributes |= name == "target_session_attrs";
                return false;
            }
        }
        true
    }

    /// Takes our options out of what follows `postgres://`. Not by a general reader of URLs: a list of hosts is none.
    fn take_from_url(&mut self, url: &str) -> Result<String, AddressError> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| AddressError::Encoding)?;
            if !self.take(name, &value) {
                kept.push(pair);
            }
        }
        let question_mark = if kept.is_empty() { "" } else { "?" };
        Ok(format!("postgres://{}{question_mark}{}", with_escaped_password(place), kept.join("&")))
    }

    fn take_from_pairs(&mut self, text: &str) -> Result<String, AddressError> {
        let mut kept = String::new();
        for (name, value) in pairs(text)? {
            if !self.take(&name, &value) {
                let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
                kept.push_str(&format!("{name}='{quoted}' "));
            }
        }
        Ok(kept)
    }

    fn encryption(&self) -> Result<(SslMode, Verification), AddressError> {
        let roots = match self.sslrootcert.as_deref() {
            None | Some("system" | "") => Trust::System,
            Some(file) => Trust::File(PathBuf::from(file)),
        };
        Ok(match self.sslmode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Verification::None),
            "allow" | "prefer" => (SslMode::Prefer, Verification::None),
            // As for libpq: whoever names a root means it to be used.
            "require" if matches!(roots, Trust::File(_)) => (SslMode::Require, Verification::Authority(roots)),
            "require" => (SslMode::Require, Verification::None),
            "verify-ca" => (SslMode::Require, Verification::Authority(roots)),
            "verify-full" => (SslMode::Require, Verification::AuthorityAndHost(roots)),
            other => return Err(AddressError::SslMode(other.to_owned())),
        })
    }
}

/// A password with an `@` in it that nobody has escaped would have its rest taken for the host, and be printed as such.
fn with_escaped_password(place: &str) -> String {
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    // An unescaped slash in the password looks like the beginning of the path.
    let (authority, path) = match path.rsplit_once('@') {
        Some((password, rest)) => {
            let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
            (format!("{authority}%2F{}@{hosts}", password.replace('/', "%2F")), path)
        }
        None => (authority.to_owned(), path),
    };
    match authority.rsplit_once('@') {
        Some((credentials, hosts)) => format!("{}@{hosts}/{path}", credentials.replace('@', "%40")),
        None => format!("{authority}/{path}"),
    }
}

/// The pairs of `name = 'value' …`; a backslash escapes.
fn pairs(text: &str) -> Result<Vec<(String, String)>, AddressError> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=').ok_or(AddressError::Malformed)?;
        let (value, behind) = value(behind.trim_start())?;
        found.push((name.trim_end().to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(found)
}

/// The value that `text` begins with, and what is behind it.
fn value(text: &str) -> Result<(String, &str), AddressError> {
    let (is_quoted, text) = text.strip_prefix('\'').map_or((false, text), |inner| (true, inner));
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, &text[index + 1..])),
            _ if character.is_whitespace() && !is_quoted => return Ok((value, &text[index..])),
            _ => value.push(character),
        }
    }
    if is_quoted { Err(AddressError::Malformed) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_libpq_reads_it() {
        let both = [
            "postgres://me:p%40ss@db.example:6432/jobs?sslmode=verify-full&sslrootcert=/etc/my%20root.pem&connect_timeout=3",
            r"host=db.example port = 6432 user=me password='p@ss' dbname=jobs sslmode=verify-full sslrootcert='/etc/my root.pem' connect_timeout=3",
        ];
        for text in both {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), "database `jobs` on `db.example:6432` as user `me`");
            assert_eq!(address.config.get_password(), Some(&b"p@ss"[..]));
            assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
            assert_eq!(address.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
            let root = Trust::File(PathBuf::from("/etc/my root.pem"));
            assert_eq!(address.verification, Verification::AuthorityAndHost(root));
        }
    }

    #[test]
    fn several_hosts_and_sockets_are_named() {
        let several = Address::parse("postgresql://me@a:1,b:2/jobs").unwrap();
        assert_eq!(several.to_string(), "database `jobs` on `a:1`, `b:2` as user `me`");
        let socket = Address::parse("postgres:///jobs?host=/run/postgresql").unwrap();
        assert_eq!(socket.to_string(), "database `jobs` on `/run/postgresql`");
    }

    #[test]
    fn the_writing_server_is_looked_for_unless_told_otherwise() {
        for (text, expected) in [("", TargetSessionAttrs::ReadWrite), ("?target_session_attrs=any", TargetSessionAttrs::Any)] {
            let address = Address::parse(&format!("postgres://a/b{text}")).unwrap();
            assert_eq!(address.config.get_target_session_attrs(), expected);
        }
    }

    #[test]
    fn every_sslmode_of_libpq_is_known() {
        let system = || Trust::System;
        for (mode, expected, verification) in [
            ("disable", SslMode::Disable, Verification::None),
            ("prefer", SslMode::Prefer, Verification::None),
            ("require", SslMode::Require, Verification::None),
            ("verify-ca", SslMode::Require, Verification::Authority(system())),
            ("verify-full", SslMode::Require, Verification::AuthorityAndHost(system())),
        ] {
            let address = Address::parse(&format!("postgres://a/b?sslmode={mode}")).unwrap();
            assert_eq!((address.config.get_ssl_mode(), address.verification), (expected, verification), "{mode}");
        }
        assert!(matches!(Address::parse("postgres://a/b?sslmode=full"), Err(AddressError::SslMode(mode)) if mode == "full"));
    }

    #[test]
    fn no_part_of_a_password_is_printed() {
        for password in ["se@cret", "se/cret", "s@e/c@ret", "se%40cret"] {
            let address = Address::parse(&format!("postgres://me:{password}@host/jobs")).unwrap();
            assert_eq!(address.to_string(), "database `jobs` on `host:5432` as user `me`", "{password}");
            assert!(!format!("{:?}", address.config).contains("cret"));
        }
        for broken in ["postgres://me:secret@host:port/jobs", "host=x password='secret", "password=secret dbname=x", "secret"] {
            let error = Address::parse(broken).err().expect("it cannot be used");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}

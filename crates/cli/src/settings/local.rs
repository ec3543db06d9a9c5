//! Where this machine reaches a server, by its settings or by the address it got.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::ensure;

use super::Settings;

impl Settings {
    /// Where this machine reaches a server with these settings.
    ///
    /// # Errors
    ///
    /// Where the system has chosen the port, which only the server knows.
    pub(crate) fn local_url(&self) -> anyhow::Result<String> {
        ensure!(self.http.port != 0, "the system chose the server's port (`--port 0`); say where it is with `--url`");
        let scheme = if self.access.tls_cert.is_some() { "https" } else { "http" };
        Ok(local_url(scheme, SocketAddr::new(self.http.host, self.http.port)))
    }
}

/// Where this machine reaches a server at an address, also if that is every address.
pub(crate) fn local_url(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: Settings,
    }

    fn url(arguments: &[&str]) -> Result<String, String> {
        Only::parse_from([&["serve"], arguments].concat()).settings.local_url().map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_at_every_address_is_reached_by_loopback() {
        assert_eq!(url(&["--port", "9000"]).unwrap(), "http://127.0.0.1:9000");
        assert_eq!(url(&["--host", "0.0.0.0", "--port", "9000"]).unwrap(), "http://127.0.0.1:9000");
        assert_eq!(url(&["--host", "::", "--port", "9000"]).unwrap(), "http://[::1]:9000");
        assert_eq!(url(&["--host", "10.1.2.3", "--port", "9000"]).unwrap(), "http://10.1.2.3:9000");
    }

    #[test]
    fn a_server_with_a_certificate_is_asked_by_https() {
        assert_eq!(url(&["--tls-cert", "c.pem", "--tls-key", "k.pem"]).unwrap(), "https://127.0.0.1:8080");
    }

    #[test]
    fn a_port_that_the_system_chose_has_to_be_said() {
        let problem = "the system chose the server's port (`--port 0`); say where it is with `--url`";
        assert_eq!(url(&["--port", "0"]).unwrap_err(), problem);
    }
}

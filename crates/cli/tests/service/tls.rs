//! Connections that are encrypted.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::Language;
use dunnage_testing::raw::Raw;
use dunnage_testing::service::Service;
use dunnage_testing::setup::{Setup, built_dunnage};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::access::{METRICS, TRAIN, all_tokens};

const PATIENCE: Duration = Duration::from_secs(20);

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and the certificates it signs for `localhost`.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl("authority", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        authority
    }

    /// Makes a certificate and its key, and returns their paths.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let (by, key) = (self.path("authority.pem"), self.path("authority.key"));
        let signed =
            ["-CA", by.to_str().unwrap(), "-CAkey", key.to_str().unwrap(), "-addext", "basicConstraints=critical,CA:FALSE"];
        self.openssl(name, &[signed.as_slice(), &["-addext", "subjectAltName=DNS:localhost"]].concat());
        (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")))
    }

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

    fn connect(&self, address: SocketAddr) -> Stream {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("authority.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
    }

    fn send(&self, service: &Service, request: &Request) -> Response {
        request.exchange(self.connect(service.address()), service.address()).unwrap()
    }
}

/// A service with the first certificate of a new authority, whose tokens are ours.
fn encrypted() -> (Authority, Setup, Service) {
    encrypted_with(&[])
}

/// The same with more flags.
fn encrypted_with(more: &[&str]) -> (Authority, Setup, Service) {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("server");
    let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let setup = Setup::new(Language::Lua, "calls").flags(&flags).flags(more).environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.launch();
    let ready = || (authority.send(&service, &Request::new("GET", "/healthz/ready")).status == 200).then_some(());
    eventually("the service is ready", PATIENCE, ready);
    (authority, setup, service)
}

/// The certificate that a new connection is shown.
fn shown(authority: &Authority, service: &Service) -> Vec<u8> {
    let mut stream = authority.connect(service.address());
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

/// Sends a request over a connection that stays open, and returns the status.
fn ask_again(stream: &mut Stream) -> u16 {
    stream.write_all(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let lines: Vec<String> = reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let length = lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap();
    reader.take(length).read_to_end(&mut Vec::new()).unwrap();
    lines[0].split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn everything_is_encrypted_once_there_is_a_certificate() {
    let (authority, setup, service) = encrypted();
    let answer = authority.send(&service, &Request::new("POST", "/train").json(&setup.body(json!({}))).token(TRAIN));
    assert_eq!(answer.status, 202, "{answer}");
    authority.send(&service, &Request::new("GET", "/jobs")).expect_problem(401, "token_missing");
    let mut stream = authority.connect(service.address());
    assert_eq!(ask_again(&mut stream), 200);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert!(Request::new("GET", "/healthz/live").send(service.address()).is_err(), "nothing is answered in the clear");
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on() {
    let (authority, _setup, service) = encrypted();
    let first = shown(&authority, &service);
    let mut open = authority.connect(service.address());
    assert_eq!(ask_again(&mut open), 200);

    let (certificate, key) = authority.issue("next");
    let complaints = || service.log().iter().filter(|line| line.contains("cannot be read anew")).count();
    std::fs::rename(&certificate, authority.path("server.pem")).unwrap();
    eventually("a certificate without its key is told", PATIENCE, || (complaints() > 0).then_some(()));
    assert_eq!(shown(&authority, &service), first, "the old one is shown meanwhile");
    std::fs::rename(&key, authority.path("server.key")).unwrap();
    let second = eventually("the new one is shown", PATIENCE, || Some(shown(&authority, &service)).filter(|shown| *shown != first));
    assert_eq!(second, CertificateDer::from_pem_file(authority.path("server.pem")).unwrap().to_vec());
    assert_eq!(ask_again(&mut open), 200);
    assert_eq!(open.conn.peer_certificates().unwrap()[0].to_vec(), first);
}

/// Connections whose handshake does not go on: they say nothing, or only how a handshake begins.
fn silent(service: &Service, count: usize) -> Vec<Raw> {
    (0..count).map(|number| Raw::connect(service).sent(&b"\x16\x03\x01\x02\x00\x01"[..number % 2 * 6])).collect()
}

#[test]
fn handshakes_take_up_room_and_have_their_time() {
    const HANDSHAKE: Duration = Duration::from_secs(6);
    let (authority, _setup, service) = encrypted_with(&["--max-connections", "4", "--head-timeout", "6s"]);
    let ask = |path: &str| authority.send(&service, &Request::new("GET", path).token(TRAIN));
    let begin = Instant::now();
    // A connection of ours may still be in their way, and one of theirs then has a moment only.
    let mut crowd = silent(&service, 3);
    eventually("they take up all the room", HANDSHAKE / 2, || {
        crowd.extend(silent(&service, 1));
        (ask("/jobs").status == 503).then_some(())
    });
    ask("/jobs").expect_problem(503, "too_many_connections");
    assert_eq!(ask("/healthz/live").status, 200, "probes are answered");
    assert!(begin.elapsed() < HANDSHAKE, "this took too long to say anything");
    crowd.extend(silent(&service, 40));
    let is_closed = |raw: &mut Raw| !raw.is_quiet(Duration::from_millis(1));
    eventually("those for whom there is no room at all are closed", HANDSHAKE / 2, || {
        crowd.iter_mut().any(is_closed).then_some(())
    });
    for raw in &mut crowd {
        assert!(raw.answers(PATIENCE).is_empty(), "nothing is said in the clear");
    }
    assert!(begin.elapsed() >= HANDSHAKE, "they were given their time");
    eventually("there is room again", PATIENCE, || (ask("/jobs").status == 200).then_some(()));
    let metrics = authority.send(&service, &Request::new("GET", "/metrics").token(METRICS));
    let cut = metrics.text().lines().find(|line| line.contains("cut_total") && line.contains("\"handshake\""));
    let cut: f64 = cut.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("they are counted");
    assert!(cut >= 4.0, "{cut}");
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let authority = Authority::new();
    let ((certificate, key), (_, other_key)) = (authority.issue("server"), authority.issue("other"));
    let refused = |certificate: &PathBuf, key: &PathBuf| {
        let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let (status, said) = Setup::new(Language::Lua, "calls").flags(&flags).refused();
        assert_eq!(status.code(), Some(2), "{said}");
        said
    };
    assert!(refused(&certificate, &other_key).contains("cannot be used together"));
    std::fs::set_permissions(&certificate, Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&certificate, &certificate).contains("is no private key in PEM"));
    assert!(refused(&key, &key).contains("is no certificate in PEM"));
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&certificate, &key).contains("is open to everybody on this machine"));
}

fn dunnage(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = Command::new(built_dunnage());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DUNNAGE_")) {
        command.env_remove(name);
    }
    command.current_dir(setup.folder()).args(arguments).output().unwrap()
}

#[test]
fn the_commands_verify_the_server_and_send_their_token() {
    let (authority, setup, service) = encrypted();
    let (url, authorities) = (format!("https://localhost:{}", service.address().port()), authority.path("authority.pem"));
    let stranger = Authority::new();
    let trusting =
        |authorities: &str, command: &[&str]| dunnage(&setup, &[command, &["--url", &url, "--ca-file", authorities]].concat());
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = authorities.to_str().unwrap();

    let healthy = trusting(ours, &["health"]);
    assert!(healthy.status.success(), "{}", said(&healthy));
    for untrusting in
        [trusting(stranger.path("authority.pem").to_str().unwrap(), &["health"]), dunnage(&setup, &["health", "--url", &url])]
    {
        assert!(!untrusting.status.success(), "{}", said(&untrusting));
    }
    let nobody = trusting(ours, &["jobs"]);
    assert!(!nobody.status.success() && said(&nobody).contains("`token_missing`"), "{}", said(&nobody));
    std::fs::write(setup.folder().join("token"), format!("{TRAIN}\n")).unwrap();
    for token in [TRAIN, "@token"] {
        let known = trusting(ours, &["jobs", "--token", token]);
        assert!(known.status.success(), "{}", said(&known));
    }
}

#[test]
fn a_health_check_of_this_machine_takes_the_certificate_it_is_shown() {
    let (authority, setup, service) = encrypted();
    let port = service.address().port().to_string();
    let certificate = authority.path("server.pem");
    let health = |settings: &[(&str, &str)]| {
        let mut command = Command::new(built_dunnage());
        command.current_dir(setup.folder()).arg("health").env("DUNNAGE_PORT", &port).envs(settings.iter().copied());
        command.output().unwrap()
    };
    let healthy = health(&[("DUNNAGE_TLS_CERT", certificate.to_str().unwrap())]);
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    let in_the_clear = health(&[]);
    assert!(String::from_utf8_lossy(&in_the_clear.stderr).contains("was not answered"), "{in_the_clear:?}");
}

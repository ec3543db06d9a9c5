//! The proxy does to connections what its modes say, and the changes of modes reach connections that are open.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use dunnage_testing::proxy::{Mode, Modes, Proxy};

/// How long something may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must arrive before it counts as held back.
const SILENCE: Duration = Duration::from_millis(200);

/// A server that answers with what it is told, as long as it lives.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                // The proxy may reset it.
                let _ = io::copy(&mut reader, &mut &stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn say(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

#[track_caller]
fn hears(mut stream: &TcpStream, text: &str) {
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text.as_bytes());
}

#[track_caller]
fn hears_nothing(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[track_caller]
fn is_reset(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

fn answers(mode: Mode) -> Modes {
    Modes { to_client: mode, ..Modes::PASS }
}

#[test]
fn what_passes_passes_and_ends_in_good_order() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    let large = "x".repeat(1 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| say(&stream, &large));
        hears(&stream, &large);
    });
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_is_delayed_comes_later() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    proxy.set(answers(Mode::Delay(SILENCE)));
    let begin = Instant::now();
    say(&stream, "late");
    hears(&stream, "late");
    assert!(begin.elapsed() >= SILENCE);
}

#[test]
fn a_cut_connection_ends_after_so_many_bytes() {
    let proxy = Proxy::start(echo());
    proxy.set(answers(Mode::CutAfter(5)));
    for _ in 0..2 {
        let stream = connect(&proxy);
        say(&stream, "abcdefgh");
        let mut heard = Vec::new();
        // The rest is lost, and whether that shows as an end or as a reset depends on who is first.
        let _ = (&stream).read_to_end(&mut heard);
        assert_eq!(heard, b"abcde");
    }
}

#[test]
fn connections_are_reset_by_mode_or_all_at_once() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    say(&stream, "a");
    hears(&stream, "a");
    proxy.reset_all();
    is_reset(&stream);
    let stream = connect(&proxy);
    say(&stream, "b");
    hears(&stream, "b");
    proxy.set(Modes::both(Mode::Reset));
    is_reset(&stream);
}

#[test]
fn a_black_hole_holds_back_until_it_is_gone() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    for modes in [Modes::both(Mode::Blackhole), answers(Mode::Blackhole), Modes { to_server: Mode::Blackhole, ..Modes::PASS }] {
        proxy.set(modes);
        say(&stream, "held");
        hears_nothing(&stream);
        proxy.set(Modes::PASS);
        hears(&stream, "held");
    }
}

#[test]
fn a_swallowed_answer_is_lost_and_its_connection_with_it() {
    let proxy = Proxy::start(echo());
    let (stream, quiet) = (connect(&proxy), connect(&proxy));
    say(&quiet, "a");
    hears(&quiet, "a");
    proxy.set(answers(Mode::Swallow));
    say(&stream, "lost");
    hears_nothing(&stream);
    proxy.set(Modes::PASS);
    is_reset(&stream);
    say(&quiet, "b");
    hears(&quiet, "b");
}

#[test]
fn a_server_that_is_not_there_resets() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    is_reset(&connect(&Proxy::start(nobody)));
}

#[test]
fn a_dropped_proxy_resets_and_refuses() {
    let proxy = Proxy::start(echo());
    let (stream, address) = (connect(&proxy), proxy.address());
    say(&stream, "a");
    hears(&stream, "a");
    drop(proxy);
    is_reset(&stream);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

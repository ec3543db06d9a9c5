//! Each fault, as it comes over the wire.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::s3::faulty::{Algorithm, End, Fault, Faulty, Gate, Matcher, Object};

use crate::wire::{Ended, Seen, get, get_until_silence, read, send};

const BODY: &[u8] = b"0123456789";
const TARGET: &str = "/dunnage/walk.csv";
const PATH: &str = "dunnage/walk.csv";

fn server() -> Faulty {
    let server = Faulty::start();
    server.put("dunnage", "walk.csv", Object::new(BODY).checksum(Algorithm::Crc64Nvme));
    server
}

/// What is seen of one request with this fault. The next one is answered well.
fn suffered(fault: Fault) -> Seen {
    suffered_by(fault, |server| get(server, TARGET))
}

/// The same, where so many bytes come and then nothing.
fn suffered_in_silence(fault: Fault, bytes: u64) -> Seen {
    suffered_by(fault, |server| get_until_silence(server, TARGET, bytes))
}

fn suffered_by(fault: Fault, client: impl Fn(&Faulty) -> Seen) -> Seen {
    let server = server();
    server.script(Matcher::get(PATH), [fault]);
    let seen = client(&server);
    let next = get(&server, TARGET);
    assert_eq!((next.status(), next.body.as_slice(), next.ended), (200, BODY, Ended::Closed));
    seen
}

#[test]
fn an_error_has_its_status_its_code_and_its_headers() {
    let seen = suffered(Fault::slow_down().and(Fault::header("Retry-After", "7")));
    assert_eq!((seen.status(), seen.header("retry-after")), (503, Some("7")));
    assert!(seen.text().contains("<Code>SlowDown</Code>"), "{seen:?}");
    assert_eq!(suffered(Fault::internal_error()).status(), 500);
    let elsewhere = suffered(Fault::status(301, "PermanentRedirect").and(Fault::header("x-amz-bucket-region", "eu-north-1")));
    assert_eq!((elsewhere.status(), elsewhere.header("x-amz-bucket-region")), (301, Some("eu-north-1")));
}

#[test]
fn a_page_of_a_proxy_is_no_error_of_s3() {
    let seen = suffered(Fault::Html(500));
    assert_eq!((seen.status(), seen.header("content-type")), (500, Some("text/html")));
    assert!(!seen.text().contains("<Code>"), "{seen:?}");
}

#[test]
fn a_redirect_says_where_to() {
    let seen = suffered(Fault::redirect(307, "http://127.0.0.1:1/trap"));
    assert_eq!((seen.status(), seen.header("location")), (307, Some("http://127.0.0.1:1/trap")));
}

#[test]
fn a_body_is_cut_after_so_many_bytes_in_either_way() {
    for after in [0, 1, 5, 9] {
        for (with, ended) in [(End::Fin, Ended::Closed), (End::Rst, Ended::Reset)] {
            let seen = suffered(Fault::Cut { after, with });
            assert_eq!((seen.status(), seen.header("content-length")), (200, Some("10")), "{after} {with:?}");
            assert_eq!((seen.body.as_slice(), seen.ended), (&BODY[..usize::try_from(after).unwrap()], ended), "{after} {with:?}");
        }
    }
}

#[test]
fn a_short_body_is_said_to_be_short_but_has_the_checksum_of_the_whole() {
    let server = server();
    server.script(Matcher::get(PATH), [Fault::Short { bytes: 4 }, Fault::Short { bytes: 2 }]);
    let seen = send(&server, &format!("GET {TARGET}"), &[("x-amz-checksum-mode", "ENABLED")]);
    assert_eq!((seen.header("content-length"), seen.body.as_slice(), seen.ended), (Some("4"), &BODY[..4], Ended::Closed));
    assert_eq!(seen.header("x-amz-checksum-crc64nvme"), Some(Algorithm::Crc64Nvme.of(BODY).as_str()));
    let part = send(&server, &format!("GET {TARGET}"), &[("Range", "bytes=5-9")]);
    assert_eq!((part.header("content-range"), part.body.as_slice()), (Some("bytes 5-9/10"), &BODY[5..7]));
}

#[test]
fn a_stalled_body_leaves_the_connection_open() {
    let seen = suffered_in_silence(Fault::Stall { after: 3 }, 3);
    assert_eq!((seen.body.as_slice(), seen.ended), (&BODY[..3], Ended::Silent));
}

#[test]
fn a_dripping_body_comes_as_slowly_as_it_shall() {
    let server = server();
    server.always(Matcher::any(), Fault::Drip { bytes_per_second: 20 });
    let begin = Instant::now();
    let seen = get(&server, TARGET);
    assert_eq!((seen.body.as_slice(), seen.ended), (BODY, Ended::Closed));
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
}

#[test]
fn a_body_without_a_length_comes_in_chunks() {
    let whole = suffered(Fault::NoLength);
    assert_eq!((whole.header("content-length"), whole.header("transfer-encoding")), (None, Some("chunked")));
    assert_eq!(whole.text(), "a\r\n0123456789\r\n0\r\n\r\n");
    let cut = suffered(Fault::NoLength.and(Fault::Cut { after: 4, with: End::Fin }));
    assert_eq!(cut.text(), "4\r\n0123\r\n");
}

#[test]
fn one_bit_of_the_body_is_another() {
    for (at, expected) in [(0, "1123456789"), (3, "0122456789"), (99, "0123456788")] {
        assert_eq!(suffered(Fault::Flip { at }).text(), expected);
    }
    let server = server();
    server.script(Matcher::any(), [Fault::Flip { at: 1 }]);
    assert_eq!(send(&server, &format!("GET {TARGET}"), &[("Range", "bytes=4-6")]).text(), "446");
}

#[test]
fn an_object_is_replaced_before_the_request_that_is_meant() {
    let server = server();
    server.script(Matcher::get(PATH), [Fault::Pass, Fault::Replace("9876543210".into())]);
    let first = send(&server, &format!("GET {TARGET}"), &[("Range", "bytes=0-4")]);
    let etag = first.header("etag").unwrap();
    assert_eq!(first.text(), "01234");
    let second = send(&server, &format!("GET {TARGET}"), &[("Range", "bytes=5-9"), ("If-Match", etag)]);
    assert_eq!(second.status(), 412);
    let again = get(&server, TARGET);
    assert_eq!(again.text(), "9876543210");
    assert_ne!(again.header("etag").unwrap(), etag);
}

#[test]
fn an_answer_can_have_another_etag_than_its_object() {
    assert_eq!(suffered(Fault::header("ETag", "\"other\"")).header("etag"), Some("\"other\""));
}

#[test]
fn a_request_is_never_answered() {
    let seen = suffered_in_silence(Fault::NeverAnswer, 0);
    assert_eq!((seen.status(), seen.ended), (0, Ended::Silent));
}

#[test]
fn a_connection_ends_before_or_after_the_effect_of_a_request() {
    for (with, ended) in [(End::Fin, Ended::Closed), (End::Rst, Ended::Reset)] {
        let server = server();
        server.script(Matcher::method("PUT"), [Fault::HangUp(with), Fault::LoseAnswer(with)]);
        let put = || send(&server, "PUT /dunnage/new", &[("Content-Length", "0")]);
        let hung_up = put();
        assert_eq!((hung_up.status(), hung_up.ended), (0, ended));
        assert_eq!(server.get("dunnage", "new"), None);
        let lost = put();
        assert_eq!((lost.status(), lost.ended), (0, ended));
        assert_eq!(server.get("dunnage", "new"), Some(Vec::new()));
    }
}

#[test]
fn a_held_request_is_answered_when_the_gate_opens_with_what_holds_then() {
    let (server, gate) = (server(), Gate::closed());
    server.always(Matcher::get(PATH), Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| get(&server, TARGET));
        eventually("the request has come", Duration::from_secs(10), || (server.gets(PATH) == 1).then_some(()));
        assert_eq!(server.requests()[0].status, None);
        server.put("dunnage", "walk.csv", "later");
        gate.open();
        assert_eq!(waiting.join().unwrap().text(), "later");
    });
    assert_eq!(get(&server, TARGET).text(), "later", "an open gate stays open");
}

#[test]
fn lists_are_used_up_in_their_order_before_what_there_always_is() {
    let server = server();
    server.always(Matcher::any(), Fault::Html(502));
    server.script(Matcher::get(PATH), [Fault::status(500, "A"), Fault::Pass]);
    server.script(Matcher::any(), [Fault::status(500, "B")]);
    let statuses: Vec<(u16, bool)> =
        (0..4).map(|_| get(&server, TARGET)).map(|seen| (seen.status(), seen.text().contains("<Code>A"))).collect();
    assert_eq!(statuses, [(500, true), (200, false), (500, false), (502, false)]);
    server.clear_faults();
    assert_eq!(get(&server, TARGET).status(), 200);
}

#[test]
fn connections_are_refused_and_accepted_again_on_the_same_port() {
    let server = server();
    let mut open = TcpStream::connect(server.address()).unwrap();
    write!(open, "GET {TARGET} HTTP/1.1\r\nHost: s3\r\n\r\n").unwrap();
    eventually("the request was answered", Duration::from_secs(10), || server.requests().first()?.ended);
    server.refuse();
    let seen = read(&mut open);
    assert_eq!((seen.body.as_slice(), seen.ended), (BODY, Ended::Reset));
    let refused = TcpStream::connect(server.address()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.accept();
    assert_eq!(get(&server, TARGET).status(), 200);
}

#[test]
fn a_server_that_is_dropped_is_gone() {
    let server = server();
    let address = server.address();
    let mut open = TcpStream::connect(address).unwrap();
    server.script(Matcher::any(), [Fault::NeverAnswer]);
    write!(open, "GET {TARGET} HTTP/1.1\r\nHost: s3\r\n\r\n").unwrap();
    eventually("the request has come", Duration::from_secs(10), || (server.gets(PATH) == 1).then_some(()));
    drop(server);
    assert_eq!(read(&mut open).ended, Ended::Reset);
    TcpListener::bind(address).expect("nobody listens on its port");
}

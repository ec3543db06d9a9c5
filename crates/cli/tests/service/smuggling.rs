//! Requests that two readers could take for different ones. Whatever is not perfectly clear is refused, ends its connection, and what
//! follows it is never taken for a request.

use std::time::Duration;

use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::raw::Raw;
use dunnage_testing::service::{Service, vector};
use dunnage_testing::setup::Setup;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

in_both_languages!(
    ambiguous_requests_are_refused_and_nothing_is_smuggled,
    requests_that_are_odd_but_clear_are_answered_once,
    a_body_in_a_million_pieces_takes_no_memory,
);

/// Heads after which nothing may be believed. `LENGTH` stands for the length of what follows.
const AMBIGUOUS: [(&str, &str); 52] = [
    ("both lengths", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: LENGTH\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (
        "both lengths, the other way",
        "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: LENGTH\r\n\r\n",
    ),
    ("both, and no length", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
    ("two lengths", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: LENGTH\r\nContent-Length: 0\r\n\r\n"),
    ("the same length twice", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: LENGTH\r\nContent-Length: LENGTH\r\n\r\n"),
    ("a list of lengths", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n"),
    ("a signed length", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"),
    ("a negative length", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("a negative zero", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n"),
    ("a hexadecimal length", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n"),
    ("a length with a fraction", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n"),
    ("a length with a space in it", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 5 0\r\n\r\n"),
    ("a length with a separator", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n"),
    ("an empty length", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    ("a length beyond all numbers", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"),
    ("another coding", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    ("two codings", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    ("chunked twice", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"),
    (
        "chunked in two headers",
        "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "chunked and identity",
        "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    ("identity", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("chunked, quoted", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
    ("chunked with a parameter", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n"),
    ("an empty coding", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    ("a vertical tab in the coding", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n"),
    ("a coding in HTTP/1.0", "POST /output HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("a space before the colon", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n"),
    ("a tab before the colon", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\n"),
    ("a folded header", "POST /output HTTP/1.1\r\nHost: a\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n"),
    ("a folded coding", "POST /output HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    ("a folded first header", "POST /output HTTP/1.1\r\n Host: a\r\nContent-Length: 0\r\n\r\n"),
    ("line feeds alone", "POST /output HTTP/1.1\nHost: a\nContent-Length: 0\n\n"),
    ("one line feed alone", "POST /output HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 0\r\n\r\n"),
    ("a blank line that is none", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\n"),
    ("a carriage return alone", "POST /output HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 5\r\n\r\n"),
    ("a line feed first", "\nPOST /output HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in a value", "POST /output HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in a name", "POST /output HTTP/1.1\r\nHost: a\r\nX\0: a\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in the path", "POST /output\0 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("a header without a name", "POST /output HTTP/1.1\r\nHost: a\r\n: a\r\nContent-Length: 0\r\n\r\n"),
    ("a header without a colon", "POST /output HTTP/1.1\r\nHost: a\r\nContent-Length 5\r\n\r\n"),
    ("a name that is not ASCII", "POST /output HTTP/1.1\r\nHost: a\r\nContent-L\u{e9}ngth: 5\r\n\r\n"),
    ("no host", "POST /output HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    ("two hosts", "POST /output HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
    ("HTTP/0.9", "GET /output\r\n\r\n"),
    ("HTTP/0.9, so called", "POST /output HTTP/0.9\r\nHost: a\r\n\r\n"),
    ("HTTP/1.2", "POST /output HTTP/1.2\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP/1.0 without a length", "POST /output HTTP/1.0\r\nHost: a\r\n\r\n"),
    ("two spaces", "POST  /output HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("a space in the path", "POST /output /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
];

/// Chunked bodies that are none, up to where that shows.
const BROKEN_CHUNKS: [(&str, &str); 14] = [
    ("no size", "\r\n"),
    ("no number", "x\r\n"),
    ("a sign", "-1\r\n"),
    ("a prefix", "0x1\r\na\r\n"),
    ("a size beyond all numbers", "10000000000000000\r\n"),
    ("a line feed alone after the size", "1\na\r\n0\r\n\r\n"),
    ("a line feed alone in an extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
    ("a NUL in an extension", "1;a\0b\r\na\r\n0\r\n\r\n"),
    ("a line feed alone after the chunk", "1\r\na\n0\r\n\r\n"),
    ("more than the size says", "1\r\nab\r\n0\r\n\r\n"),
    ("less than the size says", "9\r\na\r\n0\r\n\r\nxxx"),
    ("a digit after a space", "1 1\r\na\r\n0\r\n\r\n"),
    ("a carriage return alone", "1\ra\r\n0\r\n\r\n"),
    ("a line feed alone at the end", "0\r\n\r\t\n"),
];

/// Counts its calls.
fn counting(language: Language) -> Setup {
    let script = match language {
        Language::Python => "def output(files, ctx):\n    return [ctx.state.increment('calls', 1)]\n",
        Language::Lua => "return { output = function(_, ctx) return { ctx.state:increment('calls', 1) } end }\n",
    };
    Setup::inline(language, "counting", script)
}

/// A request that is only ever sent where it must not be taken for one.
fn smuggled(setup: &Setup) -> String {
    let body = setup.body(json!({})).to_string();
    format!(
        "POST /output HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// How many calls there have been, this one included.
fn calls(setup: &Setup, service: &Service) -> f64 {
    service.output(&setup.body(json!({})))[0]
}

fn ambiguous_requests_are_refused_and_nothing_is_smuggled(language: Language) {
    let setup = counting(language);
    let service = setup.start();
    let smuggled = smuggled(&setup);
    for (what, head) in AMBIGUOUS {
        let head = head.replace("LENGTH", &smuggled.len().to_string());
        for before in ["", "GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
            let mut raw = Raw::connect(&service);
            if !before.is_empty() {
                raw.send(before).unwrap();
                raw.answer().expect(200);
            }
            let answers = raw.sent(format!("{head}0\r\n\r\n{smuggled}")).answers(PATIENCE);
            assert_eq!(answers.len(), 1, "{what}: {answers:?}");
            answers[0].expect_problem(400, "request_malformed");
            assert_eq!(answers[0].header("connection"), Some("close"), "{what}");
        }
    }
    for (what, chunks) in BROKEN_CHUNKS {
        let head =
            "POST /output HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = Raw::connect(&service).sent(format!("{head}{chunks}{smuggled}")).answers(PATIENCE);
        assert!(answers.iter().all(|answer| answer.status == 400) && !answers.is_empty(), "{what}: {answers:?}");
    }
    assert_eq!(calls(&setup, &service), 1.0, "something was smuggled");
}

fn requests_that_are_odd_but_clear_are_answered_once(language: Language) {
    let setup = counting(language);
    let service = setup.start();
    let body = setup.body(json!({})).to_string();
    let length = body.len();
    let json = "Content-Type: application/json\r\n";
    let requests = [
        format!("\r\nPOST /output HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: {length}\r\n\r\n{body}"),
        format!("POST /output HTTP/1.1\r\nhOsT: localhost\r\n{json}CONTENT-LENGTH:    {length}\t \r\n\r\n{body}"),
        format!("POST /output HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: 000{length}\r\n\r\n{body}"),
        format!("POST /output HTTP/1.0\r\n{json}Content-Length: {length}\r\n\r\n{body}"),
        format!("POST http://localhost/output HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: {length}\r\n\r\n{body}"),
        format!(
            "POST /output HTTP/1.1\r\nHost: localhost\r\n{json}Transfer-Encoding: Chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        ),
        format!(
            "POST /output HTTP/1.1\r\nHost: localhost\r\n{json}Transfer-Encoding: chunked\r\n\r\n\
             000{length:X};a=b;c=\"d\"\r\n{body}\r\n0;last\r\nTrailer: x\r\nContent-Length: 7\r\n\r\n"
        ),
        format!("POST /output HTTP/1.1\r\nHost: localhost\r\nX: \u{fc}\r\n{json}Content-Length: {length}\r\n\r\n{body}"),
    ];
    for (number, request) in (1..).zip(&requests) {
        let mut raw = Raw::connect(&service).sent(request);
        assert_eq!(vector(&raw.answer()), [f64::from(number)], "{request}");
        assert!(raw.is_quiet(Duration::from_millis(100)) || request.contains("HTTP/1.0"), "it is answered once: {request}");
    }
}

fn a_body_in_a_million_pieces_takes_no_memory(language: Language) {
    let setup = counting(language).flags(&["--max-upload", "16MiB"]);
    let service = setup.start();
    calls(&setup, &service);
    let before = service.rss_bytes();
    let head = "POST /output HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: ";
    let json = format!("{head}application/json\r\n\r\n");
    let part = "--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n";
    let form = format!("{head}multipart/form-data; boundary=cut\r\n\r\n{:x}\r\n{part}\r\n", part.len());
    let piece = "1;some=extension\r\n \r\n".repeat(1000);
    let sent = |mut raw: Raw| {
        // It is refused on the way, after which there is no use in sending more.
        let refused = (0..3000).find(|_| raw.send(&piece).is_err() || !raw.is_quiet(Duration::from_micros(1)));
        assert!(refused.is_some(), "three million pieces are too many");
        raw.answers(PATIENCE)
    };
    let answers = sent(Raw::connect(&service).sent(json));
    answers[0].expect_problem(413, "body_too_large");
    let mut whole = Raw::connect(&service).sent(form);
    for _ in 0..3000 {
        whole.send(&piece).expect("three million bytes are not too many for a form");
    }
    let mut whole = whole.sent("9\r\n\r\n--cut--\r\n0\r\n\r\n");
    whole.answer().expect(200);
    let grown = service.rss_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "the server grew by {grown} bytes");
}

//! What foreign texts leave in the log and in the metrics: single lines, and no more of them than there are.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

in_both_languages!(whatever_is_said_is_a_line_of_its_own_in_the_log);

/// Would begin a new line, forge an entry, and paint a terminal.
const HOSTILE: &str = "one\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n\u{1b}[31mred\u{2028}\u{85}end";
/// No entry of the log is longer: runtimes may shorten errors, the server cuts tracebacks behind 64 KiB, and what is special takes up to six
/// bytes.
const MAX_ENTRY_BYTES: usize = 512 << 10;
const PATIENCE: Duration = Duration::from_secs(20);

fn script(language: Language) -> &'static str {
    match language {
        Language::Python => {
            "import logging, sys\n\n\
             def output(files, ctx):\n    print(ctx.params['said'], flush=True)\n    logging.getLogger('model').error(ctx.params['said'])\n    \
             raise ValueError(ctx.params['said'] * ctx.params.get('times', 1))\n\n\
             def input(files, ctx):\n    ctx.progress(0.5, ctx.params['said'])\n    return output(files, ctx)\n"
        }
        Language::Lua => {
            "local function raise(_, ctx)\n  print(ctx.params.said)\n  error(ctx.params.said:rep(ctx.params.times or 1))\nend\n\
             return {\n  output = raise,\n  input = function(files, ctx)\n    ctx.progress(0.5, ctx.params.said)\n    raise(files, ctx)\n  end,\n}\n"
        }
    }
}

/// Requests in which a hostile text stands wherever a client can put one.
fn hostile(setup: &Setup) -> Vec<Request> {
    let escaped: String = HOSTILE.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let file = setup.file("walk.csv", "1");
    let bodies = [
        json!({"Files": [HOSTILE]}),
        json!({"Files": [format!("s3://bucket/{HOSTILE}")]}),
        json!({"Files": [file], "Key": HOSTILE}),
        json!({"Files": [file], "Callback": HOSTILE}),
        json!({"Files": [file], "OutputUri": HOSTILE}),
        json!({"Files": [file], HOSTILE: 1}),
        json!({"Files": [file], "Params": {"said": HOSTILE, HOSTILE: HOSTILE}}),
        json!({"Files": [file], "Params": {"said": HOSTILE, "times": 20_000}}),
    ];
    let posts = bodies.iter().flat_map(|body| ["/output", "/input"].map(|call| Request::new("POST", call).json(body)));
    let targets = ["/jobs/{}", "/status?jobId={}", "/{}", "/jobs?key={}", "/models/{}/activate", "/jobs/{}/events"];
    let gets = targets.map(|target| Request::new("GET", &target.replace("{}", &escaped)));
    let named = Request::new("GET", "/nowhere").header("X-Request-Id", "a\u{1b}[31m").header("Host", "evil\u{1b}[31m.test");
    posts.chain(gets).chain([named]).collect()
}

fn whatever_is_said_is_a_line_of_its_own_in_the_log(language: Language) {
    let setup = Setup::inline(language, "says", script(language)).flags(&["--s3-endpoint", "http://127.0.0.1:1"]);
    let service = setup.start();
    for request in hostile(&setup) {
        let answer = service.send(&request);
        assert!(answer.text().len() < MAX_ENTRY_BYTES && !answer.to_string().contains('\u{1b}'), "{answer}");
        if answer.status == 202 {
            service.ended(answer.json()["jobId"].as_str().unwrap());
        }
    }
    eventually("the last of it is logged", PATIENCE, || {
        service
            .log()
            .iter()
            .any(|line| line.contains("traceback") && (line.contains("left out") || line.contains("[…]")))
            .then_some(())
    });
    for line in service.log() {
        let entry: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:.300}"));
        assert!(entry["level"].is_string() && entry["message"] != "forged", "{line:.300}");
        assert!(line.len() < MAX_ENTRY_BYTES && !line.contains(|character: char| character.is_ascii_control()), "{line:.300}");
    }
}

/// Sends so many requests, one behind the other, each with another method and path.
fn ask_for_nonsense(service: &Service, count: usize) {
    const AT_ONCE: usize = 100;
    for first in (0..count).step_by(AT_ONCE) {
        let request = |index: usize| {
            let end = if index + 1 == first + AT_ONCE { "Connection: close\r\n" } else { "" };
            format!("M{index} /jobs/{index:x}/{:x} HTTP/1.1\r\nHost: localhost\r\n{end}\r\n", index.wrapping_mul(0x9e37_79b9))
        };
        let mut stream = TcpStream::connect(service.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all((first..first + AT_ONCE).map(request).collect::<String>().as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 404 ").count(), AT_ONCE, "{answers:.300}");
    }
}

fn series(service: &Service) -> BTreeSet<String> {
    let text = service.get("/metrics").text().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[test]
fn ten_thousand_paths_and_methods_make_a_handful_of_series() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    service.get("/nowhere");
    let before = series(&service);
    ask_for_nonsense(&service, 10_000);
    let added: Vec<_> = series(&service).difference(&before).cloned().collect();
    assert!(added.len() < 40, "{added:#?}");
    assert!(added.iter().any(|series| series.contains("method=\"other\"")), "they were counted: {added:#?}");
}

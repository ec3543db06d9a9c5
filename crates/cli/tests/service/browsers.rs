//! Requests that a browser sends for somebody else's page.

use dunnage_testing::http::{Request, Response};
use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

use crate::access::{BEYOND, TRAIN, all_tokens};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const PATHS: [&str; 5] = ["/train", "/input", "/output", "/jobs", "/models/1/activate"];

fn jobs(service: &Service, token: Option<&str>) -> Value {
    let request = Request::new("GET", "/jobs");
    service.send(&token.iter().fold(request, |request, token| request.token(token))).expect(200)["jobs"].clone()
}

/// What a page of another site may have a browser send without asking first, and what it may not.
fn foreign(body: &Value) -> Vec<Request> {
    let headers: [&[(&str, &str)]; 7] = [
        &[("Origin", "http://evil.test")],
        &[("Origin", "null")],
        &[("Origin", "http://evil.test"), ("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Origin", "http://localhost:1"), ("Sec-Fetch-Site", "same-site")],
        &[("Host", "evil.test"), ("Origin", "http://evil.test"), ("Sec-Fetch-Site", "same-origin")],
        &[("Host", "evil.test")],
    ];
    let bare = |method, path| Request::new(method, path).json(body).token(TRAIN);
    let with = |request: Request, headers: &[(&str, &str)]| {
        headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    };
    let of_path = |path| METHODS.into_iter().flat_map(move |method| headers.map(|headers| with(bare(method, path), headers)));
    PATHS.into_iter().flat_map(of_path).collect()
}

#[test]
fn whatever_another_sites_page_sends_is_refused_and_has_no_effect() {
    let setup = Setup::new(Language::Lua, "calls");
    let body = setup.body(json!({}));
    let guarded_setup = Setup::new(Language::Lua, "calls").environment("DUNNAGE_TOKENS", &all_tokens());
    let (open, guarded) = (setup.start(), guarded_setup.start());
    for request in foreign(&body) {
        for service in [&open, &guarded] {
            assert_eq!(service.send(&request).status, 403, "{request:?}");
        }
    }
    assert_eq!((jobs(&open, None), jobs(&guarded, Some(TRAIN))), (json!([]), json!([])));
}

#[test]
fn a_form_or_a_plain_text_is_no_way_around() {
    let setup = Setup::new(Language::Lua, "calls");
    let service = setup.start();
    let body = setup.body(json!({})).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        for call in ["/train", "/input", "/output"] {
            let answer = service.send(&Request::new("POST", call).body(kind, body.as_str()).header("Origin", "http://evil.test"));
            answer.expect_problem(403, "host_refused");
        }
    }
    assert_eq!(jobs(&service, None), json!([]));
}

#[test]
fn pages_of_an_allowed_origin_may_send_and_read() {
    const APP: &str = "https://app.example";
    let setup = Setup::new(Language::Lua, "calls").flags(&["--allowed-origin", APP]).environment("DUNNAGE_TOKENS", &all_tokens());
    let service = setup.start();
    let allowed = |answer: &Response| answer.header("access-control-allow-origin").map(str::to_owned);
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", "/train").header("Origin", origin).header("Sec-Fetch-Site", "cross-site");
        service.send(&request.header("Access-Control-Request-Method", "POST"))
    };
    let granted = preflight(APP);
    assert_eq!((granted.status, allowed(&granted).as_deref()), (204, Some(APP)), "{granted}");
    assert!(granted.header("access-control-allow-headers").unwrap().contains("authorization"), "{granted}");
    let refused = preflight("https://evil.test");
    assert_eq!((refused.status, allowed(&refused)), (403, None), "{refused}");

    let send = |origin: &str| Request::new("POST", "/input").json(&setup.body(json!({}))).header("Origin", origin);
    let nobody = service.send(&send(APP));
    nobody.expect_problem(401, "token_missing");
    assert_eq!(allowed(&nobody).as_deref(), Some(APP), "pages can read why");
    service.send(&send("https://evil.test").token(TRAIN)).expect_problem(403, "host_refused");
    let accepted = service.send(&send(APP).token(TRAIN));
    assert_eq!((accepted.status, allowed(&accepted).as_deref()), (202, Some(APP)), "{accepted}");
    assert_eq!(service.get("/healthz/live").header("vary"), Some("Origin"));
}

#[test]
fn beyond_loopback_names_count_once_some_are_given() {
    let setup = Setup::new(Language::Lua, "calls").flags(&["--host", BEYOND, "--allow-anonymous"]);
    let called = |service: &Service, name: &str| service.send(&Request::new("GET", "/jobs").header("Host", name)).status;
    let service = setup.start();
    assert_eq!(called(&service, "any.example"), 200);
    drop(service);
    let service = setup.start_with(&["--allowed-host", "models.example"]);
    let statuses = ["any.example", "models.example:80", "192.168.7.7", "localhost"].map(|name| called(&service, name));
    assert_eq!(statuses, [403, 200, 200, 200]);
}

//! What is known of requests afterwards.

use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::s3::faulty::{End, Fault, Faulty, Gate, Matcher, Object};

use crate::wire::{get, send};

#[test]
fn a_request_is_remembered_as_it_came_and_as_it_was_answered() {
    let server = Faulty::start();
    server.put("dunnage", "a b/ü+c", "0123456789");
    server.script(Matcher::any(), [Fault::Cut { after: 3, with: End::Fin }]);
    let target = "GET /dunnage/a%20b/%C3%BC%2Bc?versionId=null&x-id=GetObject";
    send(&server, target, &[("Range", "bytes=2-"), ("If-Match", "\"e\""), ("Authorization", "AWS4-HMAC-SHA256 secret")]);
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "dunnage/a b/ü+c"));
    assert_eq!((request.query("versionId"), request.query("x-id")), (Some("null"), Some("GetObject")));
    assert_eq!((request.range(), request.header("if-match")), (Some("bytes=2-"), Some("\"e\"")));
    assert_eq!((request.is_signed, request.header("authorization")), (true, None));
    assert_eq!((request.status, request.open), (Some(404), 1));
    eventually("its end is noted", Duration::from_secs(10), || server.requests()[0].ended);
}

#[test]
fn bytes_are_counted_as_they_are_sent() {
    let server = Faulty::start();
    server.put("dunnage", "a", Object::made(3_000_000, 1));
    server.script(Matcher::any(), [Fault::Cut { after: 1_000_000, with: End::Fin }]);
    for _ in 0..2 {
        get(&server, "/dunnage/a");
    }
    assert_eq!(server.requests().iter().map(|request| request.sent_bytes).collect::<Vec<_>>(), [1_000_000, 3_000_000]);
    assert_eq!((server.most_open(), server.most_bytes_open()), (1, 3_000_000));
    assert_eq!(server.gets("dunnage/a"), 2);
    server.clear_requests();
    assert_eq!((server.requests().len(), server.most_open()), (0, 0));
}

#[tokio::test]
async fn what_is_open_at_once_is_counted() {
    let server = Faulty::start();
    server.put("dunnage", "a", "0123456789");
    let gate = Gate::closed();
    server.always(Matcher::any(), Fault::Hold(gate.clone()));
    let address = server.address();
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::task::spawn_blocking(move || Request::new("GET", "/dunnage/a").send(address).unwrap().status))
        .collect();
    server.until("eight requests have come", |requests| requests.len() == 8).await;
    gate.open();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    server.until("all are answered", |requests| requests.iter().all(|request| request.ended.is_some())).await;
    assert_eq!(server.most_open(), 8);
    let mut open: Vec<usize> = server.requests().iter().map(|request| request.open).collect();
    open.sort_unstable();
    assert_eq!(open, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_client_that_leaves_is_noticed_while_it_is_not_answered() {
    let server = Faulty::start();
    server.put("dunnage", "a", "0123456789");
    server.script(Matcher::any(), [Fault::NeverAnswer, Fault::Stall { after: 2 }, Fault::Hold(Gate::closed())]);
    for number in 0..3 {
        let patience = Duration::from_millis(50);
        Request::new("GET", "/dunnage/a").patience(patience).send(server.address()).unwrap_err();
        eventually("its leaving is noticed", Duration::from_secs(10), || server.requests().get(number)?.ended);
    }
}

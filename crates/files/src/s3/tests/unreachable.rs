//! What becomes of requests that nobody answers.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::{client, fetch, object, settings};
use crate::FileProblem;
use crate::s3::S3Settings;

async fn problem(settings: S3Settings) -> (FileProblem, Duration) {
    let start = Instant::now();
    let problem = fetch(&client(settings), &object("bucket", "key")).await.unwrap_err();
    (problem, start.elapsed())
}

/// A port on which nobody listens.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_and_then_reported() {
    let endpoint = format!("http://127.0.0.1:{}", closed_port().await);
    let (problem, elapsed) = problem(settings(&endpoint)).await;
    assert!(matches!(&problem, FileProblem::Unavailable(text) if text == "the connection was refused"), "{problem:?}");
    assert!(elapsed > Duration::from_secs(1) && elapsed < Duration::from_secs(5), "{elapsed:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_reported_without_the_name() {
    let (problem, _) = problem(S3Settings { retries: 0, ..settings("http://nowhere.invalid") }).await;
    assert!(matches!(&problem, FileProblem::Unavailable(text) if text == "its name cannot be resolved"), "{problem:?}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_or(0);
        }
    });
    let (problem, _) = problem(S3Settings { retries: 0, ..settings(&endpoint) }).await;
    server.abort();
    assert!(matches!(&problem, FileProblem::Unavailable(text) if text == "no TLS connection can be made to it"), "{problem:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut sockets = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            sockets.push(socket);
        }
    });
    let (problem, elapsed) = problem(S3Settings { retries: 1, ..settings(&endpoint) }).await;
    server.abort();
    assert!(matches!(problem, FileProblem::Stalled), "{problem:?}");
    assert!(elapsed > Duration::from_secs(1) && elapsed < Duration::from_secs(3), "twice half a second and a pause: {elapsed:?}");
}

#[tokio::test]
async fn an_outage_opens_the_breaker_and_nobody_asks_for_a_while() {
    let endpoint = format!("http://127.0.0.1:{}", closed_port().await);
    let s3 = client(S3Settings { retries: 0, ..settings(&endpoint) });
    for _ in 0..5 {
        assert!(matches!(fetch(&s3, &object("bucket", "key")).await, Err(FileProblem::Unavailable(_))));
    }
    assert!(s3.breaker_open().is_some());
    assert!(matches!(fetch(&s3, &object("bucket", "key")).await, Err(FileProblem::BreakerOpen(_))));
}

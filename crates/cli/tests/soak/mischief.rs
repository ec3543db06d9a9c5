//! Clients and scripts at their worst. Each is repeated again and again.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dunnage_testing::http::{Request, Response};
use serde_json::json;

use crate::clients::Clients;

/// Everything that goes on besides the steady requests.
pub(crate) const MISCHIEF: [fn(&Clients<'_>); 5] = [torment_workers, burst, hang_up, dawdle, upload];

/// How many requests come at once in a burst; more than may wait.
const BURST: usize = 48;
const PAUSE: Duration = Duration::from_millis(700);
/// How long a client is patient with a burst.
const PATIENCE: Duration = Duration::from_secs(30);

/// Scripts that crash, leave, hang, flood and raise, each in answer to a request.
fn torment_workers(clients: &Clients<'_>) {
    for case in ["segfault", "flood", "leave", "raise", "hang"] {
        if clients.is_over() {
            return;
        }
        let (nonce, request) = clients.output(case);
        clients.check(nonce, request.send(clients.service.address()));
        std::thread::sleep(PAUSE);
    }
}

/// More requests at once than may wait.
fn burst(clients: &Clients<'_>) {
    let address = clients.service.address();
    let requests: Vec<_> = (0..BURST).map(|_| clients.output("echo")).collect();
    let begun: Vec<_> = requests.into_iter().map(|(nonce, request)| (nonce, request.patience(PATIENCE).begin(address))).collect();
    for (nonce, stream) in begun {
        clients.check(nonce, stream.and_then(|stream| Response::read(&mut BufReader::new(stream), false)));
    }
    std::thread::sleep(PAUSE * 4);
}

/// Clients that go away: before the answer, and in the middle of the request.
fn hang_up(clients: &Clients<'_>) {
    let address = clients.service.address();
    let (_, request) = clients.output("echo");
    drop(request.begin(address));
    if let Ok(mut stream) = TcpStream::connect(address) {
        // Whether it arrives does not matter.
        let _ = stream.write_all(format!("POST /output HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n{{").as_bytes());
    }
    clients.note("hung up".to_owned());
    std::thread::sleep(PAUSE / 4);
}

/// A client that sends its request a few bytes at a time.
fn dawdle(clients: &Clients<'_>) {
    let address = clients.service.address();
    let Ok(mut stream) = TcpStream::connect(address) else { return clients.complain("no connection is taken".to_owned()) };
    let request = format!("GET /healthz/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    for bytes in request.as_bytes().chunks(8) {
        if stream.write_all(bytes).is_err() {
            return clients.note("cut off".to_owned());
        }
        std::thread::sleep(PAUSE / 10);
    }
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) if answer.starts_with("HTTP/1.1 200 ") => clients.note("slowly asked".to_owned()),
        other => clients.complain(format!("a slow client heard {other:?}: {answer}")),
    }
}

/// A file that comes along with a job.
fn upload(clients: &Clients<'_>) {
    let contents = "1,2,3\n".repeat(20_000);
    let params = json!({"nonce": 7, "case": "echo"}).to_string();
    let request = Request::new("POST", "/input").form(&[("walk.csv", &contents)], &[("Params", &params)]);
    match request.send(clients.service.address()) {
        Ok(answer) if answer.status == 202 => clients.note("uploaded".to_owned()),
        other => clients.complain(format!("an upload was answered {other:?}")),
    }
    std::thread::sleep(PAUSE);
}

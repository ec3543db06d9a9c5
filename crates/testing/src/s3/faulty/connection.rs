//! One connection of a client.

use std::io;
use std::sync::Arc;

use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Shared;
use super::answer::Answer;
use super::delivery::{self, Delivery};
use super::fault::{End, Fault};
use super::operations;
use super::record::Request;

/// Serves requests until the client has no more, the connection breaks, a fault ends it, or the server resets it.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>, mut epoch: watch::Receiver<u64>) {
    let mut stream = BufReader::new(stream);
    let is_reset = tokio::select! {
        // A client that has gone, or sends something else than HTTP, has no more requests.
        _ = serve_all(&mut stream, &shared) => false,
        _ = epoch.changed() => true,
    };
    if is_reset {
        // It fails only where there is nothing to reset.
        let _ = stream.get_ref().set_zero_linger();
    }
}

async fn serve_all(stream: &mut BufReader<TcpStream>, shared: &Shared) -> io::Result<()> {
    stream.get_mut().set_nodelay(true)?;
    while let Some((request, body)) = super::wire::read(stream).await? {
        let mut open = Open::new(shared, request.clone());
        let is_last = request.header("connection").is_some_and(|word| word.eq_ignore_ascii_case("close"));
        if !serve_one(stream, &mut open, &request, body).await? || is_last {
            break;
        }
    }
    Ok(())
}

/// Returns whether the connection can go on.
async fn serve_one(stream: &mut BufReader<TcpStream>, open: &mut Open<'_>, request: &Request, body: Vec<u8>) -> io::Result<bool> {
    let faults = open.shared.state().fault(request).flatten();
    for fault in &faults {
        match fault {
            Fault::Hold(gate) => tokio::select! {
                () = gate.pass() => {}
                gone = delivery::gone(stream) => return gone.map(|()| false),
            },
            Fault::NeverAnswer => return delivery::gone(stream).await.map(|()| false),
            Fault::HangUp(with) => return end(stream, *with).await,
            _ => {}
        }
    }
    let answer = answer(open.shared, request, &faults, body);
    if let Some(with) = faults.iter().find_map(lost) {
        return end(stream, with).await;
    }
    let delivery = Delivery::new(answer, &faults);
    open.begin(&delivery);
    delivery.send(stream, |bytes| open.shared.log().sent(open.number, bytes)).await
}

fn lost(fault: &Fault) -> Option<End> {
    match fault {
        Fault::LoseAnswer(with) => Some(*with),
        _ => None,
    }
}

async fn end(stream: &mut BufReader<TcpStream>, with: End) -> io::Result<bool> {
    delivery::end(stream, Some(with)).await?;
    Ok(false)
}

fn answer(shared: &Shared, request: &Request, faults: &[Fault], body: Vec<u8>) -> Answer {
    let refusal = faults.iter().find_map(|fault| match fault {
        Fault::Status { status, code } => Some(super::answer::Refusal::new(*status, code).into()),
        Fault::Html(status) => Some(Answer::html(*status)),
        _ => None,
    });
    let mut state = shared.state();
    for fault in faults {
        if let (Fault::Replace(object), (bucket, key)) = (fault, request.place()) {
            // Where there is no such bucket, the answer says so.
            let _ = state.put(bucket, key, object.clone());
        }
    }
    let answer = refusal.unwrap_or_else(|| operations::answer(&mut state, request, body).unwrap_or_else(Answer::from));
    Answer { is_head: request.method == "HEAD", ..answer }
}

/// A request that has no whole answer yet. However it ends, the log is told.
struct Open<'a> {
    shared: &'a Shared,
    number: usize,
    announced: u64,
}

impl<'a> Open<'a> {
    fn new(shared: &'a Shared, request: Request) -> Self {
        let number = shared.log().arrive(request);
        shared.tell();
        Self { shared, number, announced: 0 }
    }

    fn begin(&mut self, delivery: &Delivery) {
        self.announced = delivery.length();
        self.shared.log().begin(self.number, delivery.status(), self.announced);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.log().end(self.number, self.announced);
        self.shared.tell();
    }
}

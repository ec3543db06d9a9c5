//! Calls that were sent ahead, while another one drags on: they are handed back, so that a worker that is free can take them.
//!
//! [`Aside`] is told of each call that begins. Only the first time that others wait behind one does it start a thread, which looks every few
//! milliseconds whether the same call still runs, and rests while nothing is sent ahead. It needs nothing of the interpreter, which may
//! hang in native code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::connection::Connection;
use crate::sys;

/// A call that has run for this long, and up to twice as long, keeps no others waiting.
const TICK: Duration = Duration::from_millis(5);
/// After so many looks without a call that was sent ahead, the thread rests.
const QUIET_TICKS: u32 = 200;
/// It reads frames and writes short ones.
const STACK_BYTES: usize = 256 << 10;

/// Hands back what waits behind a call that drags on.
pub(crate) struct Aside {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

#[derive(Default)]
struct Shared {
    /// How many calls have begun.
    begun: AtomicU64,
    /// Whether a call has begun with others behind it since the last look.
    is_wanted: AtomicBool,
    rests: AtomicBool,
}

impl Aside {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, shared: Arc::default(), thread: None }
    }

    /// A call begins now.
    pub(crate) fn begin(&mut self) {
        self.shared.begun.fetch_add(1, Ordering::SeqCst);
        if self.connection.has_more() {
            self.watch();
        }
    }

    fn watch(&mut self) {
        self.shared.is_wanted.store(true, Ordering::SeqCst);
        match &self.thread {
            Some(thread) if self.shared.rests.swap(false, Ordering::SeqCst) => thread.unpark(),
            Some(_) => {}
            None => self.start(),
        }
    }

    fn start(&mut self) {
        let (connection, shared) = (Arc::clone(&self.connection), Arc::clone(&self.shared));
        match sys::start_without_signals("aside", STACK_BYTES, move || look(&connection, &shared)) {
            Ok(handle) => self.thread = Some(handle.thread().clone()),
            // Tried again with the next call. Until then calls wait for those before them.
            Err(error) => eprintln!("no thread could be started that hands calls back: {error}"),
        }
    }
}

/// Looks again and again, until the connection is of no further use.
fn look(connection: &Connection, shared: &Shared) {
    let mut quiet = 0;
    loop {
        let begun = shared.begun.load(Ordering::SeqCst);
        std::thread::sleep(TICK);
        // The worker loop meets the same failure, and deals with it.
        if shared.begun.load(Ordering::SeqCst) == begun && connection.hand_back().is_err() {
            return;
        }
        quiet = if shared.is_wanted.swap(false, Ordering::SeqCst) { 0 } else { quiet + 1 };
        if quiet >= QUIET_TICKS {
            rest(shared);
            quiet = 0;
        }
    }
}

fn rest(shared: &Shared) {
    shared.rests.store(true, Ordering::SeqCst);
    // Whoever has not seen that it rests has said before that it is wanted.
    if shared.is_wanted.load(Ordering::SeqCst) {
        shared.rests.store(false, Ordering::SeqCst);
    }
    while shared.rests.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use dunnage_protocol::{CallError, CallId, Functions, Load, Output, Request, Role, Run, ToServer, ToWorker, read_frame};
    use dunnage_types::{JsonObject, VectorType};
    use serde_json::Value;

    use super::*;
    use crate::backend::{Answers, Backend, Identity};
    use crate::host::{CallHost, Host};
    use crate::serve::serve;
    use crate::serve::tests::load;

    /// Takes as many milliseconds for a call as its number says.
    struct Slow;

    impl Backend for Slow {
        fn identity(&self) -> Identity {
            Identity { runtime: "slow".into(), version: "0".into(), language: "none".into() }
        }

        fn load(&mut self, _load: &Load, _host: &Host) -> Result<Functions, CallError> {
            Ok(Functions { output: true, ..Functions::default() })
        }

        fn output(&mut self, output: &Output, _host: &CallHost, answers: &mut Answers) {
            std::thread::sleep(Duration::from_millis(output.call.0));
            answers.vector(VectorType::I64, &output.deadline.map_or(0, f64::to_bits).to_le_bytes());
        }

        fn run(&mut self, _run: &Run, _host: &CallHost) -> Result<Value, CallError> {
            Ok(Value::Null)
        }
    }

    fn call(number: u64) -> ToWorker {
        let request = Request { request_id: "r".into(), files: Vec::new(), params: JsonObject::new() };
        ToWorker::Output(Output { call: CallId(number), deadline: Some(1.0), limit: Some(60.0), requests: vec![request] })
    }

    /// What a worker says that is sent these calls at once, once it is loaded.
    fn said(calls: &[u64], count: usize) -> Vec<ToServer> {
        let (mut server, worker) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || serve(worker, &mut Slow));
        let messages: Vec<u8> = std::iter::once(ToWorker::Load(load(Role::Serving)))
            .chain(calls.iter().copied().map(call))
            .flat_map(|message| message.to_frame().unwrap().to_bytes().unwrap())
            .collect();
        server.write_all(&messages).unwrap();
        let mut receive = || ToServer::from_frame(&read_frame(&mut server).unwrap().unwrap()).unwrap();
        assert!(matches!((receive(), receive()), (ToServer::Hello(_), ToServer::Loaded(_))));
        let said = (0..count).map(|_| receive()).collect();
        drop(server);
        serving.join().unwrap().unwrap();
        said
    }

    fn name(message: &ToServer) -> (&'static str, u64) {
        match message {
            ToServer::Returned(returned) => ("returned", returned.call.0),
            ToServer::Outputs(outputs, _) => ("answered", outputs.call.0),
            _ => ("other", 0),
        }
    }

    #[test]
    fn what_waits_behind_a_call_that_drags_on_is_handed_back_and_not_run() {
        let said: Vec<_> = said(&[400, 1, 2], 3).iter().map(name).collect();
        assert_eq!(said, [("returned", 1), ("returned", 2), ("answered", 400)]);
    }

    #[test]
    fn short_calls_are_answered_one_after_the_other() {
        let calls: Vec<u64> = vec![0; 30];
        let said: Vec<_> = said(&calls, 30).iter().map(name).collect();
        // Where the machine stands still meanwhile, some are handed back; none is lost.
        assert!(said.iter().all(|(name, call)| *call == 0 && *name != "other"), "{said:?}");
    }

    #[test]
    fn the_deadline_of_a_call_counts_from_its_begin() {
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let before = now();
        let said = said(&[0], 1);
        let ToServer::Outputs(_, payload) = &said[0] else { panic!("{said:?}") };
        let deadline = f64::from_bits(u64::from_le_bytes(payload[..].try_into().unwrap()));
        assert!((before + 60.0..=now() + 60.0).contains(&deadline), "{deadline}");
    }
}

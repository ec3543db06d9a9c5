//! When what a script has printed is flushed.
//!
//! A job's text is flushed before its answer. An answer to requests that others wait behind need not wait for that: streams are
//! line-buffered, so all it could leave behind is the beginning of a line, and flushing costs a good part of a short call.

use std::time::{Duration, Instant};

use crate::backend::Backend;

/// How long text may stay behind while one call follows another.
const PATIENCE: Duration = Duration::from_millis(100);

/// Flushes a backend now, or leaves that for later.
#[derive(Debug)]
pub(crate) struct Flush {
    last: Instant,
    is_owed: bool,
}

impl Flush {
    /// Nothing is owed yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, is_owed: false }
    }

    /// Flushes before an answer to requests, unless others wait behind it and it was last done less than 100 milliseconds ago.
    pub(crate) fn between_calls(&mut self, backend: &mut impl Backend, do_others_wait: bool, now: Instant) {
        if do_others_wait && now.duration_since(self.last) < PATIENCE {
            self.is_owed = true;
        } else {
            self.at_once(backend, now);
        }
    }

    /// Flushes.
    pub(crate) fn at_once(&mut self, backend: &mut impl Backend, now: Instant) {
        backend.flush();
        *self = Self::new(now);
    }

    /// Whether it was left for later. Whoever then finds no call to go on with has to do it.
    pub(crate) fn is_owed(&self) -> bool {
        self.is_owed
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use dunnage_protocol::{CallError, CallId, Functions, Load, Output, Request, Role, Run, ToServer, ToWorker, read_frame};
    use dunnage_types::{JsonObject, VectorType};
    use serde_json::Value;

    use super::*;
    use crate::backend::{Answers, Identity};
    use crate::host::{CallHost, Host};
    use crate::serve::serve;
    use crate::serve::tests::load;

    /// Notes what it was told to do.
    #[derive(Default)]
    pub(crate) struct Noting(pub(crate) Vec<&'static str>);

    impl Backend for Noting {
        fn identity(&self) -> Identity {
            Identity { runtime: "noting".into(), version: "0".into(), language: "none".into() }
        }

        fn load(&mut self, _load: &Load, _host: &Host) -> Result<Functions, CallError> {
            self.0.push("load");
            Ok(Functions { output: true, ..Functions::default() })
        }

        fn output(&mut self, _output: &Output, _host: &CallHost, answers: &mut Answers) {
            self.0.push("output");
            answers.vector(VectorType::I64, &[]);
        }

        fn run(&mut self, _run: &Run, _host: &CallHost) -> Result<Value, CallError> {
            Ok(Value::Null)
        }

        fn flush(&mut self) {
            self.0.push("flush");
        }
    }

    #[test]
    fn an_answer_that_others_wait_behind_is_not_flushed_for() {
        let (mut backend, now) = (Noting::default(), Instant::now());
        let mut flush = Flush::new(now);
        flush.between_calls(&mut backend, true, now + Duration::from_millis(99));
        assert!(flush.is_owed() && backend.0.is_empty());
        flush.between_calls(&mut backend, false, now + Duration::from_millis(99));
        assert!(!flush.is_owed() && backend.0 == ["flush"]);
    }

    #[test]
    fn text_stays_behind_for_100_milliseconds_at_most_while_one_call_follows_another() {
        let (mut backend, now) = (Noting::default(), Instant::now());
        let mut flush = Flush::new(now);
        for millis in 1..=250 {
            flush.between_calls(&mut backend, true, now + Duration::from_millis(millis));
        }
        assert!(flush.is_owed() && backend.0 == ["flush", "flush"]);
    }

    #[test]
    fn what_calls_sent_ahead_have_printed_is_flushed_before_the_last_answer() {
        let (mut server, worker) = UnixStream::pair().unwrap();
        let request = Request { request_id: "r".into(), files: Vec::new(), params: JsonObject::new() };
        let load = ToWorker::Load(load(Role::Serving));
        let call = |number| {
            let requests = vec![request.clone()];
            ToWorker::Output(Output { call: CallId(number), deadline: None, limit: None, requests })
        };
        let messages = std::iter::once(load).chain((0..50).map(call));
        let bytes: Vec<u8> = messages.flat_map(|message| message.to_frame().unwrap().to_bytes().unwrap()).collect();
        server.write_all(&bytes).unwrap();
        let serving = std::thread::spawn(move || {
            let mut backend = Noting::default();
            serve(worker, &mut backend).unwrap();
            backend.0
        });
        for _ in 0..52 {
            ToServer::from_frame(&read_frame(&mut server).unwrap().unwrap()).unwrap();
        }
        drop(server);
        let noted = serving.join().unwrap();
        assert!(noted[..2] == ["load", "flush"] && noted.ends_with(&["output", "flush"]), "{noted:?}");
        let flushed = noted.iter().filter(|what| **what == "flush").count();
        // There is more than one besides those two only where the machine stands still meanwhile.
        assert!(flushed < 25, "{noted:?}");
    }
}

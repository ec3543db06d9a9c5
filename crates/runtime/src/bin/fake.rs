//! `dunnage-fake`: a runtime without a language, for tests. A script is a text file that names one of the behaviours below.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use dunnage_protocol::{
    CallError, CallId, Functions, Item, Load, LogMessage, Output, Outputs, Request, Run, ToServer, VectorLayout,
};
use dunnage_runtime::{Answers, Backend, CallHost, Host, HostError, Identity};
use dunnage_types::{JobKind, JsonObject, LogLevel, Progress, StateValue, VectorType};
use serde_json::{Number, Value, json};

fn main() -> ExitCode {
    let result = dunnage_runtime::inherited_socket().map_err(|error| error.to_string()).and_then(|socket| {
        let mut fake = Fake { socket: socket.try_clone().ok(), ..Fake::default() };
        dunnage_runtime::serve(socket, &mut fake).map_err(|error| error.to_string())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dunnage-fake: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Fake {
    behaviour: String,
    artifact: Option<std::path::PathBuf>,
    version: u32,
    /// The connection to the server, to break the protocol on.
    socket: Option<UnixStream>,
}

impl Backend for Fake {
    fn identity(&self) -> Identity {
        Identity { runtime: "dunnage-fake".into(), version: env!("CARGO_PKG_VERSION").into(), language: "none".into() }
    }

    fn load(&mut self, load: &Load, _host: &Host) -> Result<Functions, CallError> {
        let text = std::fs::read_to_string(&load.script).map_err(|error| CallError::new("load_failed", error.to_string()))?;
        self.behaviour = text.trim().to_owned();
        self.artifact = load.artifact.as_ref().map(|artifact| artifact.path.clone());
        self.version = load.artifact.as_ref().map_or(0, |artifact| artifact.version);
        let functions = Functions { train: true, input: true, output: true, ..Functions::default() };
        match self.behaviour.as_str() {
            "acts" if self.artifact.as_ref().is_some_and(|folder| folder.join("broken").exists()) => {
                Err(CallError::new("load_failed", "the artifact is broken on purpose"))
            }
            "broken" => Err(CallError::new("load_failed", "broken on purpose")),
            "vector" | "constant" | "raises" | "bad_output" => Ok(Functions { output: true, ..Functions::default() }),
            "batch" => Ok(Functions { output: true, output_batch: true, ..Functions::default() }),
            _ => Ok(functions),
        }
    }

    fn output(&mut self, output: &Output, _host: &CallHost, answers: &mut Answers) {
        for request in &output.requests {
            match self.answer(request, &output.requests, output.call) {
                Ok(values) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    answers.vector(VectorType::F64, &bytes);
                }
                Err(error) => answers.error(error),
            }
        }
    }

    fn run(&mut self, run: &Run, host: &CallHost) -> Result<Value, CallError> {
        match (self.behaviour.as_str(), run.kind) {
            ("vector" | "constant" | "raises" | "bad_output" | "batch", kind) => {
                Err(CallError::new("function_missing", format!("the script has no function `{kind}`")))
            }
            ("job", JobKind::Train) => Ok(json!({"files": run.files.len(), "x": run.params.get("x")})),
            ("job", JobKind::Input) if run.params.contains_key("fail") => Err(raised("no input today")),
            ("chatty", _) => chatter(host).map_err(refused),
            ("state", _) => work_through_state(host).map_err(refused),
            ("too_large", JobKind::Train) => set_too_much(host).map(|()| Value::Null).map_err(refused),
            ("too_large", JobKind::Input) => Ok(set_too_much(host).err().map(|error| error.to_string()).into()),
            ("artifact", _) => write_artifact(host, &run.params),
            ("patient", _) => wait_for_cancel(host).map_err(refused),
            ("acts", _) => {
                host.progress(Progress { message: Some("acting".into()), ..Progress::default() }).map_err(refused)?;
                self.act(&run.params);
                Ok(json!(self.version))
            }
            _ => Ok(Value::Null),
        }
    }
}

impl Fake {
    fn answer(&self, request: &Request, batch: &[Request], call: CallId) -> Result<Vec<f64>, CallError> {
        let x = request.params.get("x").and_then(Value::as_f64).unwrap_or(0.0);
        let count = |length: usize| u32::try_from(length).map_or(f64::NAN, f64::from);
        match self.behaviour.as_str() {
            "vector" => {
                let sizes: u64 = request.files.iter().map(|file| file.size).sum();
                Ok(vec![count(request.files.len()), count(usize::try_from(sizes).unwrap_or(usize::MAX)), x])
            }
            "constant" => Ok((1..=128).map(|number| f64::from(number) / 7.0).collect()),
            "legacy" => Ok(request.files.iter().map(|file| count(usize::try_from(file.size).unwrap_or(usize::MAX))).collect()),
            "acts" if request.params.get("do") == Some(&json!("poison")) => Err(raised("CUDA error: device-side assert triggered")),
            "acts" if request.params.get("do") == Some(&json!("raise")) => Err(raised("boom")),
            "acts" if request.params.get("do") == Some(&json!("large")) => {
                let length = request.params.get("length").and_then(Value::as_u64).unwrap_or(1 << 18);
                Ok(vec![x; usize::try_from(length).unwrap_or(usize::MAX)])
            }
            "batch" if batch.iter().any(|request| request.params.contains_key("fail")) => Err(raised("boom")),
            "batch" => Ok(vec![x, count(batch.len())]),
            "raises" if request.params.contains_key("fail") => Err(raised("boom")),
            "bad_output" => Err(CallError::new("bad_output", "the answer is no vector")),
            "artifact" => match &self.artifact {
                Some(folder) => Ok(vec![std::fs::read(folder.join("weights.txt")).map_or(f64::NAN, |text| count(text.len()))]),
                None => Ok(vec![-1.0]),
            },
            "acts" => {
                self.act(&request.params);
                self.misanswer(call, &request.params);
                Ok(vec![x, f64::from(self.version)])
            }
            _ => Ok(vec![1.0]),
        }
    }

    /// Sends an answer besides the one that is due, as `Params` name it under `answer`.
    fn misanswer(&self, call: CallId, params: &JsonObject) {
        let call = match params.get("answer").and_then(Value::as_str) {
            Some("twice") => call.0,
            Some("before") => call.0.saturating_sub(1),
            Some("ahead") => call.0 + 1,
            _ => return,
        };
        let layout = VectorLayout { dtype: VectorType::F64, length: 2 };
        let outputs = Outputs { call: CallId(call), items: vec![Item::Vector(layout)] };
        let payload: Vec<u8> = [666.0_f64, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let frame = ToServer::Outputs(outputs, payload.into()).to_frame().and_then(|frame| Ok(frame.to_bytes()?));
        let mut socket = self.socket.as_ref().expect("the connection could be cloned");
        socket.write_all(&frame.expect("a short message")).expect("the server reads");
    }

    /// Does what `Params` name under `do`, as scripts may in their worst moments.
    #[expect(clippy::print_stdout, reason = "printing is what some of these are for")]
    fn act(&self, params: &JsonObject) {
        let hang = || loop {
            std::thread::park();
        };
        let socket = || self.socket.as_ref().expect("the connection could be cloned");
        match params.get("do").and_then(Value::as_str).unwrap_or_default() {
            "abort" => {
                eprintln!("last words");
                std::process::abort();
            }
            "exit" => std::process::exit(0),
            "say" => {
                println!("{}", params.get("text").and_then(Value::as_str).unwrap_or_default());
                std::thread::sleep(Duration::from_secs(60));
            }
            "print" => println!("{}", params.get("x").cloned().unwrap_or_default()),
            "hang" => hang(),
            "sleep" => {
                println!("sleeping");
                std::thread::sleep(Duration::from_millis(params.get("ms").and_then(Value::as_u64).unwrap_or(0)));
            }
            "flood" => (0..20_000).for_each(|number| println!("line {number}")),
            "garbage" => socket().write_all(&[0xff; 64]).expect("the server reads"),
            "talk" => {
                let log = LogMessage { call: None, level: LogLevel::Info, message: "and another thing".to_owned() };
                let frame = ToServer::Log(log).to_frame().and_then(|frame| Ok(frame.to_bytes()?)).expect("a short message");
                loop {
                    socket().write_all(&frame).expect("the server reads");
                }
            }
            "hoard" => {
                // Never given back, as a leak.
                std::mem::forget(vec![1_u8; 8 << 20]);
            }
            "open" => {
                // All that it may.
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    std::mem::forget(file);
                }
            }
            "daemon" => {
                let line = "setsid setsid sleep 60 >/dev/null 2>&1 &";
                let mut shell = std::process::Command::new("/bin/sh").args(["-c", line]).spawn().expect("there is a shell");
                shell.wait().expect("it is our child");
            }
            "close" => {
                socket().shutdown(Shutdown::Both).expect("the connection is open");
                hang();
            }
            "spawn" => {
                let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("there is a `sleep`");
                println!("{}", child.id());
                child.wait().expect("it is our child");
            }
            _ => {}
        }
    }
}

fn raised(message: &str) -> CallError {
    CallError { traceback: Some("dunnage-fake, line 1".into()), ..CallError::new("script_error", message) }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn refused(error: HostError) -> CallError {
    raised(&error.to_string())
}

fn chatter(host: &CallHost) -> Result<Value, HostError> {
    #[expect(clippy::print_stdout, reason = "printing is what this behaviour is for")]
    {
        println!("a printed line");
    }
    let metrics = JsonObject::from_iter([("loss".to_owned(), json!(0.25))]);
    host.progress(Progress { fraction: Some(0.5), message: Some("half".into()), metrics })?;
    host.log(LogLevel::Warning, "a warning");
    Ok(Value::Null)
}

fn work_through_state(host: &CallHost) -> Result<Value, HostError> {
    let text = |text: &str| StateValue::Json(json!(text));
    host.state_set("text", text("ä"))?;
    let read = host.state_get("text")?;
    host.state_set("bytes", StateValue::Bytes(vec![0, 255]))?;
    let length = host.state_get("bytes")?.map(|value| value.size());
    host.state_increment("n", Number::from(2))?;
    let sum = host.state_increment("n", Number::from_f64(0.5).unwrap_or(Number::from(0)))?;
    let swapped = host.state_compare_and_set("text", Some(text("ä")), Some(text("b")))?;
    let swapped_again = host.state_compare_and_set("text", Some(text("ä")), Some(text("c")))?;
    host.state_delete("bytes")?;
    let gone = host.state_get("bytes")?.is_none();
    let keys: Vec<String> = host.state_scan("t", None, 10)?.into_iter().map(|entry| entry.key).collect();
    let read = match read {
        Some(StateValue::Json(value)) => value,
        _ => Value::Null,
    };
    Ok(json!({
        "text": read, "length": length, "sum": sum, "swapped": swapped, "swapped_again": swapped_again, "gone": gone, "keys": keys,
    }))
}

fn set_too_much(host: &CallHost) -> Result<(), HostError> {
    host.state_set("big", StateValue::Json(json!("x".repeat(2000))))
}

fn write_artifact(host: &CallHost, params: &JsonObject) -> Result<Value, CallError> {
    let folder = host.new_artifact().map_err(refused)?;
    let text = params.get("text").and_then(Value::as_str).unwrap_or_default();
    std::fs::write(folder.join("weights.txt"), text).map_err(|error| raised(&error.to_string()))?;
    Ok(Value::Null)
}

fn wait_for_cancel(host: &CallHost) -> Result<Value, HostError> {
    host.progress(Progress { message: Some("waiting".into()), ..Progress::default() })?;
    while !host.is_cancelled()? {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Ok(json!("cancelled"))
}

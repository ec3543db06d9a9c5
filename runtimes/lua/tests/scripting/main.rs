//! What a script can do and what is told to its author when it goes wrong, against the program itself.

mod context;
mod errors;
mod forms;
mod modules;
mod outputs;
mod self_tests;
mod state;

use std::path::PathBuf;

use dunnage_protocol::{CallError, File, Functions, Request};
use dunnage_runtime::suite::{Driver, Subject};
use dunnage_types::{JobKind, JsonObject};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs the Lua code in `Params.code`, which is given `files` and `ctx`.
const EVALUATOR: &str = r#"
    local function evaluate(files, ctx)
      return assert(loadstring("local dunnage, ffi, files, ctx = ... " .. ctx.params.code, "=code"))(require("dunnage"), require("ffi"), files, ctx)
    end
    return { train = evaluate, output = evaluate }
"#;

/// A worker and the folder its script is in.
struct Worker {
    driver: Driver,
    folder: TempDir,
}

impl Worker {
    /// Starts a worker, without a script.
    fn new() -> Self {
        Self::with_command(vec![env!("CARGO_BIN_EXE_dunnage-lua").to_owned()])
    }

    fn with_command(command: Vec<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let subject = Subject { command, scripts: folder.path().to_owned(), extension: "lua".to_owned() };
        Self { driver: Driver::spawn(&subject), folder }
    }

    /// Starts a worker with the script `source`, which must load.
    fn start(source: &str) -> Self {
        let mut worker = Self::new();
        worker.load(source).unwrap();
        worker
    }

    /// Starts a worker that runs whatever code it is given.
    fn evaluator() -> Self {
        Self::start(EVALUATOR)
    }

    fn load(&mut self, source: &str) -> Result<Functions, CallError> {
        let script = self.write("model.lua", source);
        self.driver.load(&script, None)
    }

    /// Writes a file beside the script.
    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn train(&mut self, files: Vec<File>, params: JsonObject) -> Result<Value, CallError> {
        self.driver.run(JobKind::Train, files, params)
    }

    fn output(&mut self, files: Vec<File>, params: JsonObject) -> Result<Vec<f64>, CallError> {
        let request = Request { request_id: "r1".to_owned(), files, params };
        self.driver.output(vec![request]).remove(0)
    }

    /// What `train` returns for a piece of code; for an evaluator.
    fn eval(&mut self, code: &str) -> Result<Value, CallError> {
        self.train(Vec::new(), object(json!({ "code": code })))
    }

    /// What `output` answers for a piece of code; for an evaluator.
    fn vector(&mut self, code: &str) -> Result<Vec<f64>, CallError> {
        self.output(Vec::new(), object(json!({ "code": code })))
    }
}

fn object(value: Value) -> JsonObject {
    value.as_object().unwrap().clone()
}

fn none() -> JsonObject {
    JsonObject::new()
}

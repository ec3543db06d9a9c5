//! A Lua script as a [`Backend`].

use std::path::Path;

use dunnage_protocol::{CallError, File, Functions, Load, Output, Request, Run};
use dunnage_runtime::{Answers, Backend, CallHost, Host, Identity};
use dunnage_types::JsonObject;
use mlua::{Function, Lua, LuaString, Table, Value};
use serde_json::Value as Json;

use crate::call::Call;
use crate::interpreter::{Interpreter, lua_failed, vector_type};
use crate::paths;
use crate::sys::{self, Asked};
use crate::value;

/// The backend: an interpreter, and the script once it is loaded.
#[derive(Debug)]
pub(crate) struct LuaBackend {
    interpreter: Interpreter,
    loaded: Option<Script>,
}

/// A loaded script.
#[derive(Debug)]
struct Script {
    /// What `script.load` returned: the script's functions.
    functions: Table,
    /// The fields that the contexts of all calls share.
    common: Table,
    /// What `script.answering` returned.
    answer: Function,
    has_batch: bool,
}

impl LuaBackend {
    /// Opens the interpreter.
    pub(crate) fn new() -> mlua::Result<Self> {
        Ok(Self { interpreter: Interpreter::new()?, loaded: None })
    }
}

impl Backend for LuaBackend {
    fn identity(&self) -> Identity {
        let language = self.interpreter.language().unwrap_or_else(|_| "LuaJIT".to_owned());
        Identity { runtime: "dunnage-lua".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), language }
    }

    fn load(&mut self, load: &Load, host: &Host) -> Result<Functions, CallError> {
        let script = self.interpreter.load(load).map_err(load_failed)?;
        self.interpreter.set_up(&script, &host.loading()).map_err(load_failed)?;
        let functions = script.functions().map_err(lua_failed)?;
        self.loaded = Some(script);
        Ok(functions)
    }

    fn self_test(&mut self, host: &Host) -> Result<bool, CallError> {
        let script = self.loaded.as_ref().ok_or_else(not_loaded)?;
        self.interpreter.self_test(script, &host.loading())
    }

    fn output(&mut self, output: &Output, host: &CallHost, answers: &mut Answers) {
        match &self.loaded {
            Some(script) if script.has_batch => self.interpreter.answer_batch(script, output, host, answers),
            Some(script) => self.interpreter.answer_each(script, output, host, answers),
            None => output.requests.iter().for_each(|_| answers.error(not_loaded())),
        }
    }

    fn run(&mut self, run: &Run, host: &CallHost) -> Result<Json, CallError> {
        let script = self.loaded.as_ref().ok_or_else(not_loaded)?;
        self.interpreter.run(script, run, host)
    }

    fn flush(&mut self) {
        self.interpreter.flush();
    }
}

impl Script {
    fn functions(&self) -> mlua::Result<Functions> {
        let has = |name: &str| self.functions.get::<Value>(name).map(|value| !value.is_nil());
        let output = has("output")? || self.has_batch;
        let (train, input, self_test) = (has("train")?, has("input")?, has("self_test")?);
        Ok(Functions { train, input, output, output_batch: self.has_batch, self_test })
    }
}

impl Interpreter {
    fn load(&self, load: &Load) -> Result<Script, CallError> {
        let path = &load.script;
        let source = std::fs::read(path)
            .map_err(|error| CallError::new("load_failed", format!("cannot read the script `{}`: {error}", path.display())))?;
        paths::set(&self.lua, path.parent().unwrap_or(Path::new("."))).map_err(lua_failed)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let chunk = self.lua.load(source).set_name(format!("@{name}")).into_function().map_err(syntax_error)?;
        let functions: Table = self.call(&self.function("load")?, (chunk, name.as_ref()))?;
        let has_batch = functions.contains_key("output_batch").map_err(lua_failed)?;
        let common = self.common(load).map_err(lua_failed)?;
        let answer = self.function("answering")?.call((&functions, &common)).map_err(lua_failed)?;
        Ok(Script { functions, common, answer, has_batch })
    }

    fn set_up(&self, script: &Script, host: &CallHost) -> Result<(), CallError> {
        let Some(setup) = script.functions.get::<Option<Function>>("setup").map_err(lua_failed)? else { return Ok(()) };
        let ctx = self.context(script, host, &JsonObject::new(), None).map_err(lua_failed)?;
        self.call(&setup, ctx)
    }

    fn self_test(&self, script: &Script, host: &CallHost) -> Result<bool, CallError> {
        let ctx = self.context(script, host, &JsonObject::new(), None).map_err(lua_failed)?;
        self.call(&self.function("self_test")?, (&script.functions, ctx))
    }

    fn run(&self, script: &Script, run: &Run, host: &CallHost) -> Result<Json, CallError> {
        let prepared = || -> mlua::Result<_> {
            let ctx = self.context(script, host, &run.params, run.deadline)?;
            ctx.raw_set("job_id", run.job.to_string())?;
            ctx.raw_set("attempt", run.attempt)?;
            ctx.raw_set("seed", run.seed)?;
            Ok((self.files(&run.files)?, ctx))
        };
        let (files, ctx) = prepared().map_err(lua_failed)?;
        let returned: Value = self.call(&self.function("run")?, (&script.functions, run.kind.as_str(), files, ctx))?;
        value::to_json(&self.lua, &returned).map_err(|error| {
            CallError::new("bad_result", format!("the result of `{}` has no place in JSON: {error}", run.kind.as_str()))
        })
    }

    /// One call of `output` a request, so that each fails alone.
    fn answer_each(&self, script: &Script, output: &Output, host: &CallHost, answers: &mut Answers) {
        let call = self.calls.begin(host);
        for request in &output.requests {
            let answered = self.request_params(request).and_then(|params| {
                let asked = Asked { request, params: params.as_ref(), call, deadline: output.deadline };
                self.answer(&script.answer, asked, |dtype, bytes| answers.vector(dtype, bytes))
            });
            if let Err(error) = answered {
                answers.error(error);
            }
        }
    }

    /// `None` where there are none, which Lua then makes a table of.
    fn request_params(&self, request: &Request) -> Result<Option<Table>, CallError> {
        let given = Some(&request.params).filter(|given| !given.is_empty());
        given.map(|given| params(&self.lua, given)).transpose().map_err(lua_failed)
    }

    fn answer_batch(&self, script: &Script, output: &Output, host: &CallHost, answers: &mut Answers) {
        match self.call_batch(script, output, host) {
            Ok(packed) => packed.iter().for_each(|packed| self.add_packed(packed, answers)),
            Err(error) => output.requests.iter().for_each(|_| answers.error(error.clone())),
        }
    }

    fn call_batch(&self, script: &Script, output: &Output, host: &CallHost) -> Result<Vec<Table>, CallError> {
        let prepared = || -> mlua::Result<_> {
            let ctx = self.context(script, host, &JsonObject::new(), output.deadline)?;
            let requests = self.lua.create_table_with_capacity(output.requests.len(), 0)?;
            for request in &output.requests {
                requests.raw_push(self.request(request)?)?;
            }
            Ok((requests, ctx))
        };
        let (requests, ctx) = prepared().map_err(lua_failed)?;
        self.call(&self.function("output_batch")?, (&script.functions, requests, ctx))
    }

    /// Adds one of the answers that `script.output_batch` has packed.
    fn add_packed(&self, packed: &Table, answers: &mut Answers) {
        let read = || -> mlua::Result<_> {
            match packed.raw_get(1)? {
                true => Ok(Ok((vector_type(&packed.raw_get(2)?), packed.raw_get::<LuaString>(3)?))),
                false => Ok(Err(self.failure(&packed.raw_get(2)?))),
            }
        };
        match read().unwrap_or_else(|error| Err(lua_failed(error))) {
            Ok((dtype, bytes)) => answers.vector(dtype, &bytes.as_bytes()),
            Err(error) => answers.error(error),
        }
    }

    /// One of the requests that `output_batch` is given.
    fn request(&self, request: &Request) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(0, 3)?;
        table.raw_set("request_id", request.request_id.as_str())?;
        table.raw_set("params", params(&self.lua, &request.params)?)?;
        table.raw_set("files", self.files(&request.files)?)?;
        Ok(table)
    }

    fn files(&self, files: &[File]) -> mlua::Result<Table> {
        sys::files(&self.lua, &self.file, files)
    }

    fn context(&self, script: &Script, host: &CallHost, given: &JsonObject, deadline: Option<f64>) -> mlua::Result<Table> {
        self.new_context.call((&script.common, Call(host.clone()), params(&self.lua, given)?, deadline))
    }

    /// The fields that the contexts of all calls share.
    fn common(&self, load: &Load) -> mlua::Result<Table> {
        let common = self.lua.create_table()?;
        common.raw_set("device", load.device.as_str())?;
        common.raw_set("service", load.service.as_str())?;
        if let Some(artifact) = &load.artifact {
            common.raw_set("artifact", artifact.path.as_path())?;
            common.raw_set("version", artifact.version)?;
        }
        Ok(common)
    }

    /// A function of `script.lua`.
    fn function(&self, name: &str) -> Result<Function, CallError> {
        self.script.raw_get(name).map_err(lua_failed)
    }
}

fn params(lua: &Lua, params: &JsonObject) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, params.len())?;
    for (name, value) in params {
        table.raw_set(name.as_str(), value::from_json(lua, value)?)?;
    }
    Ok(table)
}

fn load_failed(error: CallError) -> CallError {
    CallError { code: "load_failed".to_owned(), ..error }
}

fn syntax_error(error: mlua::Error) -> CallError {
    match error {
        mlua::Error::SyntaxError { message, .. } => CallError::new("load_failed", message),
        other => lua_failed(other),
    }
}

fn not_loaded() -> CallError {
    CallError::new("load_failed", "no script is loaded")
}

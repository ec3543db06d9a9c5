//! The Lua state, and the half of this runtime that is written in Lua.

use dunnage_protocol::CallError;
use dunnage_types::VectorType;
use mlua::{AnyUserData, FromLuaMulti, Function, IntoLuaMulti, Lua, LuaSerdeExt, LuaString, MultiValue, ObjectLike, Table, Value};

use crate::call::{self, Calls};
use crate::sys::{self, Answering, Asked, Floats};
use crate::value::{self, ArrayFunctions, Bytes};

/// So much of an error's text, and of its traceback, is passed on, as by `dunnage-python`.
const MAX_MESSAGE: usize = 2_000;
const MAX_TRACEBACK: usize = 16_000;

/// A Lua state, ready for a script.
#[derive(Debug)]
pub(crate) struct Interpreter {
    /// The state.
    pub(crate) lua: Lua,
    /// The functions of `script.lua`.
    pub(crate) script: Table,
    /// Makes the context of a call: `context.new(common, call, params, deadline, request_id)`.
    pub(crate) new_context: Function,
    /// The metatable of `File`.
    pub(crate) file: Table,
    /// Where short answers lie.
    floats: Floats,
    /// The calls that requests belong to.
    pub(crate) calls: Calls,
    answering: Answering,
    protect: Function,
    flush: Function,
    streams: [Value; 2],
}

impl Interpreter {
    /// Opens a state and loads our half into it.
    pub(crate) fn new() -> mlua::Result<Self> {
        let lua = sys::open()?;
        lua.load(include_str!("lua/signals.lua")).set_name("=dunnage").exec()?;
        let failure = load(&lua, include_str!("lua/failure.lua"), ())?;
        let array = load(&lua, include_str!("lua/array.lua"), &failure)?;
        let floats = Floats::new();
        let vector = load(&lua, include_str!("lua/vector.lua"), (&failure, &array, floats.pointer(), Floats::CAPACITY))?;
        let (calls, read_file) = (Calls::default(), lua.create_function(call::read_file)?);
        let context = load(&lua, include_str!("lua/context.lua"), (&failure, read_file, calls.function(&lua)?))?;
        let script = load(&lua, include_str!("lua/script.lua"), (&failure, vector, &context, lua.null()))?;
        let module = load(&lua, include_str!("lua/module.lua"), (&failure, &array, native(&lua)?))?;
        lua.register_module("dunnage", module)?;
        lua.set_app_data(ArrayFunctions { parts: array.get("parts")?, from_parts: array.get("from_parts")? });
        let io: Table = lua.globals().get("io")?;
        let stdout: AnyUserData = io.get("stdout")?;
        // Whoever watches a long job wants to see its lines as they are printed.
        stdout.call_method::<()>("setvbuf", "line")?;
        Ok(Self {
            script,
            new_context: context.get("new")?,
            file: context.get("File")?,
            floats,
            calls,
            answering: Answering::new(&lua)?,
            protect: failure.get("protect")?,
            flush: stdout.get("flush")?,
            streams: [Value::UserData(stdout), io.get("stderr")?],
            lua,
        })
    }

    /// `LuaJIT` and its version.
    pub(crate) fn language(&self) -> mlua::Result<String> {
        self.lua.globals().get::<Table>("jit")?.get("version")
    }

    /// Flushes what Lua's `print` and `io.write` buffer.
    pub(crate) fn flush(&self) {
        for stream in &self.streams {
            // It fails if the script has closed the stream, and then there is nothing to flush.
            let _ = self.flush.call::<()>(stream);
        }
    }

    /// Calls a Lua function on the script's behalf.
    ///
    /// # Errors
    ///
    /// How it failed: the script's error with its traceback, or what the script asked for by failing.
    pub(crate) fn call<R: FromLuaMulti>(&self, function: &Function, arguments: impl IntoLuaMulti) -> Result<R, CallError> {
        let outcome = arguments.into_lua_multi(&self.lua).and_then(|mut arguments| {
            arguments.push_front(Value::Function(function.clone()));
            self.protect.call::<(bool, MultiValue)>(arguments)
        });
        match outcome {
            Ok((true, results)) => R::from_lua_multi(results, &self.lua).map_err(lua_failed),
            Ok((false, mut description)) => Err(self.failure(&description.pop_front().unwrap_or_default())),
            Err(error) => Err(lua_failed(error)),
        }
    }

    /// Answers a request by `answer`, which `script.answering` has made, and hands the vector to `receive`.
    ///
    /// # Errors
    ///
    /// As [`Interpreter::call`].
    pub(crate) fn answer<R>(
        &self,
        answer: &Function,
        asked: Asked<'_>,
        receive: impl FnOnce(VectorType, &[u8]) -> R,
    ) -> Result<R, CallError> {
        match self.answering.call(answer, &self.file, asked).map_err(lua_failed)? {
            (true, Value::Integer(count), _) => Ok(receive(VectorType::F64, self.floats.bytes(count))),
            (true, Value::String(dtype), Value::String(bytes)) => Ok(receive(vector_type(&dtype), &bytes.as_bytes())),
            (_, description, _) => Err(self.failure(&description)),
        }
    }

    /// Reads the description of a failure that `failure.lua` has made.
    pub(crate) fn failure(&self, description: &Value) -> CallError {
        description.as_table().map_or_else(
            || CallError::new("script_error", "the script failed, and so did the attempt to say how"),
            |description| self.described(description).unwrap_or_else(lua_failed),
        )
    }

    fn described(&self, description: &Table) -> mlua::Result<CallError> {
        let text =
            |name: &str| -> mlua::Result<_> { Ok(description.get::<Option<LuaString>>(name)?.map(|text| text.to_string_lossy())) };
        let message = match text("message")? {
            Some(message) => message,
            None => self.error_value(&description.get("value")?),
        };
        let traceback = text("traceback")?.filter(|traceback| !traceback.is_empty());
        let code = text("code")?.unwrap_or_default();
        let (message, traceback) = (shortened(message, MAX_MESSAGE), traceback.map(|text| shortened(text, MAX_TRACEBACK)));
        Ok(CallError { code, message, traceback, retry_after: description.get("retry_after")? })
    }

    /// The text for an error that is no text.
    fn error_value(&self, value: &Value) -> String {
        let kind = value::type_name(value);
        match value::to_json(&self.lua, value) {
            Ok(json) => format!("the script raised a {kind} value: {json}"),
            Err(_) => format!("the script raised a {kind} value"),
        }
    }
}

/// Runs one of our files, whose functions then show up in tracebacks under a name that `failure.lua` knows.
fn load(lua: &Lua, source: &str, arguments: impl IntoLuaMulti) -> mlua::Result<Table> {
    lua.load(source).set_name("=[dunnage]").call(arguments)
}

/// What `module.lua` cannot make in Lua.
fn native(lua: &Lua) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    native.set("bytes", lua.create_function(|_, text: LuaString| Ok(Bytes::new(&text)))?)?;
    native.set("null", lua.null())?;
    native.set("array_metatable", lua.array_metatable())?;
    Ok(native)
}

/// The type that `vector.pack` names.
pub(crate) fn vector_type(name: &LuaString) -> VectorType {
    match &*name.as_bytes() {
        b"f32" => VectorType::F32,
        b"i64" => VectorType::I64,
        _ => VectorType::F64,
    }
}

/// As much of a text as is told of it: one without end would not fit into a frame.
fn shortened(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push_str(" […]");
    }
    text
}

/// For a failure outside of the script's own functions, where mostly memory can be lacking.
pub(crate) fn lua_failed(error: mlua::Error) -> CallError {
    CallError::new("script_error", error.to_string())
}

#[cfg(test)]
mod tests {
    use dunnage_protocol::Request;
    use dunnage_types::{Array, Dtype, JsonObject, StateValue};

    use super::*;

    #[test]
    fn a_vector_has_the_narrowest_type_that_holds_it() {
        let interpreter = Interpreter::new().unwrap();
        let answering: Function = interpreter.script.get("answering").unwrap();
        let request = Request { request_id: "r".to_owned(), files: Vec::new(), params: JsonObject::new() };
        for (source, dtype, bytes) in [
            ("{1}", VectorType::F64, &1_f64.to_le_bytes()[..]),
            ("require('dunnage').array({0.1}, 'f32')", VectorType::F32, &0.1_f32.to_le_bytes()),
            ("require('dunnage').array({-2}, 'i8')", VectorType::I64, &(-2_i64).to_le_bytes()),
            ("require('ffi').new('int64_t[1]', 9007199254740993LL)", VectorType::I64, &9_007_199_254_740_993_i64.to_le_bytes()),
            ("require('ffi').new('float[?]', 1, 0.1)", VectorType::F32, &0.1_f32.to_le_bytes()),
        ] {
            let script: Table = interpreter.lua.load(format!("{{ output = function() return {source} end }}")).eval().unwrap();
            let answer: Function = answering.call((script, interpreter.lua.create_table().unwrap())).unwrap();
            let asked = Asked { request: &request, params: None, call: 1, deadline: None };
            let found = interpreter.answer(&answer, asked, |dtype, bytes| (dtype, bytes.to_vec())).unwrap();
            assert_eq!(found, (dtype, bytes.to_vec()), "{source}");
        }
    }

    #[test]
    fn an_array_keeps_its_shape() {
        let interpreter = Interpreter::new().unwrap();
        for (shape, elements) in [(vec![2, 3], 6), (vec![], 1), (vec![0, 7], 0), (vec![4], 4)] {
            let array = StateValue::Array(Array { dtype: Dtype::U8, shape, data: vec![9; elements] });
            let seen = value::from_state(&interpreter.lua, array.clone()).unwrap();
            assert_eq!(value::to_state(&interpreter.lua, &seen).unwrap(), array);
        }
        let broken = StateValue::Array(Array { dtype: Dtype::U8, shape: vec![5], data: vec![9; 4] });
        assert!(value::from_state(&interpreter.lua, broken).is_err());
    }
}
